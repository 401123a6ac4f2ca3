/** Whether a content-type announces gRPC's messages: `application/grpc`, alone or with a suffix or parameters. */
export function isGrpcContentType(type: string | undefined): boolean {
  if (type === "application/grpc") return true;
  return type !== undefined && /^application\/grpc(\+|;)/i.test(type);
}
