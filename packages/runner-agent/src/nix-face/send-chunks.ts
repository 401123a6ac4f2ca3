import type { ServerResponse } from "node:http";

import { CacheError } from "@glorious/core";

/**
 * Writes chunks as fast as the client takes them and ends the answer; how many bytes went. Each is done with before the
 * next is asked for.
 *
 * @throws {CacheError} `CANCELLED` when the client went away; whatever the chunks throw.
 */
export async function sendChunks(
  response: ServerResponse,
  chunks: AsyncIterable<Buffer>,
): Promise<number> {
  let sentBytes = 0;
  for await (const chunk of chunks) {
    if (response.destroyed) throw new CacheError("CANCELLED", "The client went away");
    sentBytes += chunk.length;
    await write(response, chunk);
  }
  response.end();
  return sentBytes;
}

/** Resolves when the chunk went to the kernel, or nowhere any more. */
function write(response: ServerResponse, chunk: Buffer): Promise<void> {
  return new Promise((resolve) => {
    response.write(chunk, () => resolve());
  });
}
