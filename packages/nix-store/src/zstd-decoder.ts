import type { TransformOptions } from "node:stream";
import { constants, createZstdDecompress, type ZstdDecompress, type ZstdOptions } from "node:zlib";

import { abortable, CacheError, cancelledError } from "@glorious/core";

import { createZstdFrameReader, type ZstdFrameHeader } from "./zstd-frames.ts";

/** Options of {@link decodeZstd}. */
export interface DecodeZstdOptions {
  /** Frames that need a window larger than `2 ** maxWindowLog` bytes are refused; default 27 (128 MiB). */
  readonly maxWindowLog?: number;
  /**
   * The consumer is done with a chunk when it asks for the next: its memory is freed then, and is no garbage.
   */
  readonly consumerIsDone?: boolean;
  /** A chunk of the source is done with when the next is asked for: it may be used for something else then. */
  readonly copiesSource?: boolean;
  readonly signal?: AbortSignal | undefined;
}

const OUTPUT_CHUNK_BYTES = 512 * 1024;
/** Gathered before the thread pool is asked: the way there and back costs as much as decoding 64 KiB. */
const INPUT_BYTES = 256 * 1024;

/**
 * Decompresses a zstd stream strictly: every frame is decoded, skippable frames are left out, and
 * whatever else is in the stream is an error.
 *
 * Decompression runs on Node's thread pool while the consumer works; memory is a window and a few
 * chunks, however large a frame claims to be. Source chunks are handed over, unless they are copied: they must not
 * change after they were yielded. When the consumer stops early, the source is stopped too.
 *
 * @throws {CacheError} `CORRUPT` for damaged data, a content size that is a lie, or trailing
 * garbage; `TRUNCATED` when the stream ends inside a frame or has no frame; `TOO_LARGE` for a window
 * over the limit; `UNSUPPORTED` for a dictionary; `CANCELLED` when `signal` aborts. Errors of the
 * source come through as they are.
 */
export async function* decodeZstd(
  source: AsyncIterable<Uint8Array>,
  options: DecodeZstdOptions = {},
): AsyncGenerator<Buffer, void, undefined> {
  const { maxWindowLog = 27, signal } = options;
  if (signal?.aborted === true) throw cancelledError(WHAT, signal);
  const decoder = createZstdDecompress(decoderOptions(maxWindowLog));
  // Errors reach the consumer through the iterator; this one only keeps late ones from being thrown.
  decoder.on("error", () => {});
  const stop = new AbortController();
  const onAbort = (): void => {
    if (signal !== undefined) decoder.destroy(cancelledError(WHAT, signal));
  };
  signal?.addEventListener("abort", onAbort, { once: true });

  let fedBytes = 0;
  const input = options.copiesSource === true ? new CopiedInput() : new FrameInput();
  const feeding = feed(source, decoder, {
    input,
    maxWindowBytes: 2 ** maxWindowLog,
    signal: stop.signal,
    onWrite: (sizeBytes) => (fedBytes += sizeBytes),
  });
  const fed = feeding.catch((error: unknown) => {
    decoder.destroy(error instanceof Error ? error : new Error(String(error)));
  });
  try {
    const chunks: AsyncIterable<Buffer> = decoder;
    for await (const chunk of chunks) {
      yield chunk;
      if (options.consumerIsDone === true) freeFilled(chunk);
    }
    if (decoder.bytesWritten !== fedBytes) {
      throw new CacheError("CORRUPT", `zstd data ends early, at byte ${decoder.bytesWritten}`);
    }
    await feeding;
  } catch (error) {
    throw fromZlibError(error);
  } finally {
    signal?.removeEventListener("abort", onAbort);
    decoder.destroy();
    stop.abort();
    await fed;
    input.free();
  }
}

const WHAT = "Decoding zstd data";

/** Frees the memory of a chunk that reaches to the end of it: the decoder has gone on to another. */
function freeFilled({ buffer, byteOffset, byteLength }: Buffer): void {
  if (byteOffset + byteLength < buffer.byteLength || byteLength === 0) return;
  if (buffer instanceof ArrayBuffer && buffer.byteLength === OUTPUT_CHUNK_BYTES) buffer.transfer(0);
}

function decoderOptions(maxWindowLog: number): ZstdOptions & TransformOptions {
  return {
    chunkSize: OUTPUT_CHUNK_BYTES,
    readableHighWaterMark: OUTPUT_CHUNK_BYTES,
    writableHighWaterMark: INPUT_BYTES,
    params: { [constants.ZSTD_d_windowLogMax]: maxWindowLog },
  };
}

function fromZlibError(error: unknown): unknown {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (code === "Z_BUF_ERROR") {
    return new CacheError("TRUNCATED", "The zstd data ends inside a frame", { cause: error });
  }
  if (code === "ZSTD_error_memory_allocation") {
    return new CacheError("UNAVAILABLE", "No memory to decode zstd data", { cause: error });
  }
  if (code.startsWith("ZSTD_error_")) {
    return new CacheError("CORRUPT", `The zstd data does not decode: ${code.slice(11)}`, {
      cause: error,
    });
  }
  return error;
}

interface FeedOptions {
  readonly input: DecoderInput;
  readonly maxWindowBytes: number;
  readonly signal: AbortSignal;
  readonly onWrite: (sizeBytes: number) => void;
}

/** Gathers what is to be decoded, each piece within one frame. */
interface DecoderInput {
  /** What comes next is the last of its frame. */
  endFrame(): void;
  add(bytes: Uint8Array): void;
  take(): readonly Uint8Array[];
  /** The decoder has done with a piece. */
  done(piece: Uint8Array): void;
  /** Nothing more comes. */
  free(): void;
}

/** Hands on what came, as it came when it is large. */
class FrameInput implements DecoderInput {
  #parts: Uint8Array[] = [];
  #partBytes = 0;
  #ready: Uint8Array[] = [];
  #isFrameEnding = false;

  endFrame(): void {
    this.#isFrameEnding = true;
  }

  add(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.#partBytes += bytes.length;
    if (!this.#isFrameEnding && this.#partBytes < INPUT_BYTES) return;
    const [first] = this.#parts;
    const isOne = this.#parts.length === 1 && first !== undefined;
    this.#ready.push(isOne ? first : Buffer.concat(this.#parts, this.#partBytes));
    this.#parts = [];
    this.#partBytes = 0;
    this.#isFrameEnding = false;
  }

  take(): readonly Uint8Array[] {
    const ready = this.#ready;
    this.#ready = [];
    return ready;
  }

  done(): void {}
  free(): void {}
}

/** Copies what came into memory of its own, which it uses again. */
class CopiedInput implements DecoderInput {
  #room: Buffer | undefined;
  #filled = 0;
  #spare: Buffer[] = [];
  #ready: Uint8Array[] = [];
  #isFrameEnding = false;

  endFrame(): void {
    this.#isFrameEnding = true;
  }

  add(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      const room = (this.#room ??= this.#spare.pop() ?? Buffer.allocUnsafeSlow(INPUT_BYTES));
      const end = Math.min(bytes.length, at + room.length - this.#filled);
      room.set(bytes.subarray(at, end), this.#filled);
      this.#filled += end - at;
      at = end;
      if (this.#filled === room.length) this.#endPiece();
    }
    if (this.#isFrameEnding) this.#endPiece();
    this.#isFrameEnding = false;
  }

  take(): readonly Uint8Array[] {
    const ready = this.#ready;
    this.#ready = [];
    return ready;
  }

  done({ buffer }: Uint8Array): void {
    this.#spare.push(Buffer.from(buffer));
  }

  free(): void {
    for (const { buffer } of this.#spare) {
      if (buffer instanceof ArrayBuffer) buffer.transfer(0);
    }
    this.#spare = [];
  }

  #endPiece(): void {
    if (this.#room !== undefined) this.#ready.push(this.#room.subarray(0, this.#filled));
    this.#room = undefined;
    this.#filled = 0;
  }
}

/**
 * Writes the frames of `source` to `decoder`, each write within one frame.
 *
 * Node's decoder takes the end of a frame for the end of the data when more input is at hand: it
 * stops in silence before a skippable frame, before garbage, and before a second frame in the same
 * write. So it only ever sees frames, and never the end of one together with the next.
 */
async function feed(
  source: AsyncIterable<Uint8Array>,
  decoder: ZstdDecompress,
  options: FeedOptions,
): Promise<void> {
  const { input } = options;
  const reader = createZstdFrameReader({
    frame: (header) => requireDecodable(header, options.maxWindowBytes),
    frameEnd: () => input.endFrame(),
    data: (bytes) => input.add(bytes),
  });
  let hasData = false;
  const write = async (piece: Uint8Array): Promise<void> => {
    hasData = true;
    options.onWrite(piece.length);
    if (!decoder.write(piece, () => input.done(piece))) await writable(decoder);
  };
  for await (const chunk of abortable(source, WHAT, options.signal)) {
    reader.write(chunk);
    for (const piece of input.take()) {
      await write(piece);
      if (decoder.destroyed) return;
    }
  }
  reader.end();
  if (hasData) decoder.end();
  // Nothing but skippable frames: valid, and empty. The decoder would miss its first frame.
  else decoder.push(null);
}

function requireDecodable(header: ZstdFrameHeader, maxWindowBytes: number): void {
  if (header.windowBytes > maxWindowBytes) {
    throw new CacheError(
      "TOO_LARGE",
      `A zstd frame needs a window of ${header.windowBytes} bytes, the limit is ${maxWindowBytes}`,
      { hint: "Compress with a smaller window, for example zstd without --ultra and --long." },
    );
  }
  if (header.dictionaryId !== 0) {
    throw new CacheError("UNSUPPORTED", `A zstd frame needs dictionary ${header.dictionaryId}`, {
      hint: "Compress without a dictionary.",
    });
  }
}

/** Waits until the decoder takes more, or will never. */
function writable(decoder: ZstdDecompress): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = (): void => {
    decoder.off("drain", done);
    decoder.off("close", done);
    resolve();
  };
  decoder.on("drain", done);
  decoder.on("close", done);
  if (decoder.destroyed) done();
  return promise;
}
