import type { HeaderList, Metadata } from "@glorious/grpc";

/** Fields that belong to one connection, or that the engine writes itself. */
const OWN_FIELDS: ReadonlySet<string> = new Set([
  "authorization",
  "connection",
  "content-length",
  "content-type",
  "host",
  "te",
  "trailer",
  "transfer-encoding",
]);

/** A caller's headers as they go to the cache, with its credential in the place of the loopback secret. */
export interface ForwardedMetadata {
  of(headers: HeaderList, token: string | undefined): Metadata;
}

/** Remembers what repeats: a connection's calls come with the same headers, over and over. */
export function createForwardedMetadata(): ForwardedMetadata {
  const known = new WeakMap<HeaderList, { token: string | undefined; metadata: Metadata }>();
  return {
    of(headers, token) {
      const found = known.get(headers);
      if (found !== undefined && found.token === token) return found.metadata;
      const metadata = forward(headers, token);
      known.set(headers, { token, metadata });
      return metadata;
    },
  };
}

function forward(headers: HeaderList, token: string | undefined): Metadata {
  const fields: Array<readonly [string, string | Uint8Array]> = [];
  for (const [name, value] of headers.entries()) {
    if (OWN_FIELDS.has(name) || name.startsWith("grpc-")) continue;
    // Values that gRPC does not allow are not ours to send.
    if (!/^[0-9a-z_.-]+$/.test(name) || !/^[ -~]*$/.test(value)) continue;
    fields.push([name, name.endsWith("-bin") ? Buffer.from(value, "base64") : value]);
  }
  if (token !== undefined) fields.push(["authorization", `Bearer ${token}`]);
  return fields;
}
