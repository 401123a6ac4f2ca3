import { CacheError } from "@glorious/core";

/**
 * Decodes an xz stream in this thread: a command line has nobody else to answer meanwhile.
 *
 * @throws {CacheError} `CORRUPT` or `TRUNCATED`; errors of the source as they are.
 */
export async function* decodeXz(
  source: AsyncIterable<Buffer>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer, void, undefined> {
  const { default: xz } = await import("xz-decompress");
  const chunks = source[Symbol.asyncIterator]();
  let failure: { readonly error: unknown } | undefined;
  const input = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          signal?.throwIfAborted();
          let next = await chunks.next();
          // The decoder would take an empty piece for the end.
          while (next.done !== true && next.value.length === 0) next = await chunks.next();
          if (next.done === true) controller.close();
          else controller.enqueue(next.value);
        } catch (error) {
          failure = { error };
          controller.error(error);
        }
      },
    },
    { highWaterMark: 0 },
  );
  try {
    for await (const chunk of new xz.XzReadableStream(input)) yield Buffer.from(chunk);
  } catch (cause) {
    if (failure !== undefined) throw failure.error;
    // Number 8 of the decoder's, and how it stumbles over no input at all.
    const isCut = /error code 8$|reading 'byteLength'/.test(String(cause));
    throw new CacheError(
      isCut ? "TRUNCATED" : "CORRUPT",
      `The xz stream is ${isCut ? "cut short" : "damaged"}`,
      { cause },
    );
  } finally {
    await chunks.return?.();
  }
}
