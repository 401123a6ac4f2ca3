import type { ReadChain } from "../trust/read-chain.ts";

/** Shared proxies may keep what everybody may read; nobody's answer to a token. */
export function headersOf(
  { isPublic }: ReadChain,
  maxAgeSeconds: number,
  more?: string,
): Readonly<Record<string, string>> {
  const cacheControl = [
    isPublic ? "public" : "private",
    `max-age=${maxAgeSeconds}`,
    ...(more === undefined ? [] : [more]),
  ].join(", ");
  return isPublic
    ? { "cache-control": cacheControl, "x-attic-cache-visibility": "public" }
    : { "cache-control": cacheControl, vary: "authorization" };
}
