import type { IncomingMessage, ServerResponse } from "node:http";

import { CacheError } from "@glorious/core";

import type { FileRange } from "./nar-stream.ts";

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

/** The one range of bytes that Nix asks for when it resumes; `undefined` for the whole file and for anything else. */
export function readRange({ headers }: Pick<IncomingMessage, "headers">): FileRange | undefined {
  const [, start, end] = /^bytes=(\d{1,15})-(\d{0,15})$/.exec(headers.range ?? "") ?? [];
  if (start === undefined) return undefined;
  return { start: Number(start), ...(end ? { end: Number(end) + 1 } : {}) };
}
