import type { IncomingMessage, ServerResponse } from "node:http";

import { CacheError } from "@glorious/core";

import type { FileRange } from "./nar-stream.ts";

/**
 * Writes chunks as fast as the client takes them and ends the answer; how many bytes went.
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
    if (!response.write(chunk)) await drained(response);
  }
  response.end();
  return sentBytes;
}

function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const goOn = (): void => {
      response.off("drain", goOn);
      response.off("close", goOn);
      resolve();
    };
    response.on("drain", goOn);
    response.on("close", goOn);
  });
}

/** The one range of bytes that Nix asks for when it resumes; `undefined` for the whole file and for anything else. */
export function readRange({ headers }: Pick<IncomingMessage, "headers">): FileRange | undefined {
  const [, start, end] = /^bytes=(\d{1,15})-(\d{0,15})$/.exec(headers.range ?? "") ?? [];
  if (start === undefined) return undefined;
  return { start: Number(start), ...(end ? { end: Number(end) + 1 } : {}) };
}
