import type { IncomingMessage } from "node:http";
import type { TLSSocket } from "node:tls";

import { CacheError } from "@glorious/core";

/**
 * The address a client reaches the server under, with a final slash: the configured one, or what its own request
 * says (`Host`, and `X-Forwarded-Proto` as Attic reads it).
 *
 * @throws {CacheError} `INVALID` when its `Host` is none.
 */
export function baseUrl(request: IncomingMessage, publicUrl: string | undefined): string {
  if (publicUrl !== undefined) return publicUrl;
  const isTls =
    (request.socket as Partial<TLSSocket>).encrypted === true ||
    request.headers["x-forwarded-proto"] === "https";
  const { host = "localhost" } = request.headers;
  const base = `${isTls ? "https" : "http"}://${host}/`;
  if (!URL.canParse(base)) {
    throw new CacheError("INVALID", `The request's Host ${JSON.stringify(host)} is none`, {
      hint: "Send the host and port under which the server is reached.",
    });
  }
  return base;
}

/** Where Bazel reaches a view of the server at this base, for its `--remote_cache`. */
export function bazelEndpoints(base: string, view: string): { grpc: string; http: string } {
  const { protocol, host } = new URL(base);
  const scheme = protocol === "https:" ? "grpcs" : "grpc";
  return { grpc: `${scheme}://${host}`, http: `${base}${view}` };
}
