import { CacheError } from "@glorious/core";

/**
 * Takes the first bytes of a body and leaves the rest as a stream.
 *
 * @throws {CacheError} `TRUNCATED` when the body is shorter.
 */
export async function splitPreamble(
  body: AsyncGenerator<Buffer>,
  sizeBytes: number,
): Promise<{ readonly head: Buffer; readonly rest: AsyncIterable<Buffer> }> {
  const pieces: Buffer[] = [];
  let collected = 0;
  while (collected < sizeBytes) {
    const next = await body.next();
    if (next.done === true) {
      throw new CacheError(
        "TRUNCATED",
        `The body ended after ${collected} of the preamble's ${sizeBytes} bytes`,
      );
    }
    pieces.push(next.value);
    collected += next.value.length;
  }
  const all = Buffer.concat(pieces);
  const surplus = all.subarray(sizeBytes);
  async function* rest(): AsyncGenerator<Buffer> {
    if (surplus.length > 0) yield surplus;
    yield* body;
  }
  return { head: all.subarray(0, sizeBytes), rest: rest() };
}

/** The first `sizeBytes` of a stream. Fewer are passed on as they are: whoever counts them will say so. */
export async function* takeBytes(
  source: AsyncIterable<Buffer>,
  sizeBytes: number,
): AsyncGenerator<Buffer> {
  let left = sizeBytes;
  if (left === 0) return;
  for await (const chunk of source) {
    if (chunk.length >= left) {
      yield chunk.subarray(0, left);
      return;
    }
    left -= chunk.length;
    yield chunk;
  }
}
