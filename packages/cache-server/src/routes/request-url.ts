import type { IncomingMessage } from "node:http";
import type { TLSSocket } from "node:tls";

/**
 * The address a client reaches the server under, with a final slash: the configured one, or what its own request
 * says (`Host`, and `X-Forwarded-Proto` as Attic reads it).
 */
export function baseUrl(request: IncomingMessage, publicUrl: string | undefined): string {
  if (publicUrl !== undefined) return publicUrl;
  const isTls =
    (request.socket as Partial<TLSSocket>).encrypted === true ||
    request.headers["x-forwarded-proto"] === "https";
  return `${isTls ? "https" : "http"}://${request.headers.host ?? "localhost"}/`;
}

/** Where Bazel reaches a view of the server at this base, for its `--remote_cache`. */
export function bazelEndpoints(base: string, view: string): { grpc: string; http: string } {
  const { protocol, host } = new URL(base);
  const scheme = protocol === "https:" ? "grpcs" : "grpc";
  return { grpc: `${scheme}://${host}`, http: `${base}${view}` };
}
