import { isIPv4 } from "node:net";

import { CacheError } from "@glorious/core";

/**
 * Reads the address of an upstream and ends its path with a slash.
 *
 * @throws {CacheError} `INVALID` when it is no http or https address, or has credentials, a query or a fragment. What
 *   it has of them is not repeated.
 */
export function parseUpstreamUrl(text: string): string {
  const url = URL.parse(text);
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:")) {
    throw new CacheError("INVALID", "The upstream's url is no http or https address", {
      hint: "Write it with its scheme: https://cache.example.org/.",
    });
  }
  if (url.username !== "" || url.password !== "") {
    throw new CacheError("INVALID", "The upstream's url has credentials in it", {
      hint: "Send them as `authorization`, for an upstream of one view; they are kept secret there.",
    });
  }
  if (text.includes("?") || text.includes("#")) {
    throw new CacheError("INVALID", "The upstream's url has a query or a fragment", {
      hint: "Leave it out: names of files are put behind the address.",
    });
  }
  return url.href.endsWith("/") ? url.href : `${url.href}/`;
}

/** Whether everybody on the way can read what is sent there: plain HTTP, and not to this machine. */
export function isReadableOnTheWay(url: string): boolean {
  const { protocol, hostname } = new URL(url);
  if (protocol === "https:") return false;
  const isLoopback =
    hostname === "localhost" ||
    hostname.endsWith(".localhost") ||
    hostname === "[::1]" ||
    (isIPv4(hostname) && hostname.startsWith("127."));
  return !isLoopback;
}
