import { CacheError } from "@glorious/core";

import type { Exchange } from "./exchange.ts";

/** A number of bytes in a header; `undefined` when there is none. @throws {CacheError} `INVALID`. */
export function bytesOf(text: string | undefined, header: string): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d{1,16}$/.test(text) && Number.isSafeInteger(value)) return value;
  throw new CacheError("INVALID", `${header} is no number of bytes`);
}

/** Writes chunks as fast as the client takes them, and ends the answer. */
export async function sendChunks(
  { response, signal }: Pick<Exchange, "response" | "signal">,
  chunks: AsyncIterable<Buffer>,
): Promise<void> {
  for await (const chunk of chunks) {
    signal.throwIfAborted();
    if (!response.write(chunk)) await drained(response, signal);
  }
  response.end();
}

function drained(response: Exchange["response"], signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const goOn = (): void => {
      response.off("drain", goOn);
      response.off("close", goOn);
      signal.removeEventListener("abort", goOn);
      resolve();
    };
    response.on("drain", goOn);
    response.on("close", goOn);
    signal.addEventListener("abort", goOn);
  });
}
