import { CacheError } from "@glorious/core";

import { ResponseError } from "./response-error.ts";

/**
 * Passes on what a server answered about a view, and says so when no cache server can have answered: each names the kind of
 * its refusal, whereas anything else that speaks HTTP only says 404.
 *
 * @throws {CacheError} `UNSUPPORTED` for such an answer; otherwise the one there is.
 */
export async function fromCacheServer<T>(server: URL, answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    const isForeign =
      error instanceof ResponseError &&
      (error.status === 404 || error.status === 405) &&
      error.kind === undefined;
    if (!isForeign) throw error;
    throw new CacheError(
      "UNSUPPORTED",
      `${server.href} does not answer as a cache server does: ${error.message}`,
      { cause: error, hint: "Name the server's own address, without a view behind it." },
    );
  }
}
