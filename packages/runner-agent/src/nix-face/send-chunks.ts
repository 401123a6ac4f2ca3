import type { ServerResponse } from "node:http";

import { CacheError } from "@glorious/core";

/**
 * Writes chunks as fast as the client takes them and ends the answer; how many bytes went. While one is written the
 * next is fetched, and a chunk's memory is its source's again when the one after the next is asked for.
 *
 * @throws {CacheError} `CANCELLED` when the client went away; whatever the chunks throw.
 */
export async function sendChunks(
  response: ServerResponse,
  chunks: AsyncIterable<Buffer>,
): Promise<number> {
  let sentBytes = 0;
  let written = Promise.resolve();
  for await (const chunk of chunks) {
    await written;
    if (response.destroyed) throw new CacheError("CANCELLED", "The client went away");
    sentBytes += chunk.length;
    written = write(response, chunk);
  }
  await written;
  response.end();
  return sentBytes;
}

/** Resolves when the chunk went to the kernel, or nowhere any more. */
function write(response: ServerResponse, chunk: Buffer): Promise<void> {
  return new Promise((resolve) => {
    response.write(chunk, () => resolve());
  });
}
