/** Whether an address of a remote cache means gRPC. */
export function isGrpc(remoteCache: string): boolean {
  return !/^https?:/i.test(remoteCache);
}

/** An address as something that `URL` knows the port of. */
export function toHttpUrl(remoteCache: string): URL {
  const address = /^[a-z]+:\/\//i.test(remoteCache) ? remoteCache : `grpcs://${remoteCache}`;
  return new URL(address.replace(/^grpc/i, "http"));
}
