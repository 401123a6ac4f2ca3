import { constants, createZstdCompress } from "node:zlib";

import { abortable } from "@glorious/core";

import { NAR_ENCODING } from "./nar-encoding.ts";

/** Options of {@link encodeNar}. */
export interface EncodeNarOptions {
  /** The zstd level, 1 to 22; default 3. Another level gives other bytes. */
  readonly level?: number;
  /**
   * How many frames are compressed at the same time on Node's thread pool; default 2.
   * Never changes the bytes. A large NAR takes about 40 MiB for each, a small one hardly any.
   */
  readonly concurrency?: number;
  /** How large the NAR will be, in bytes, if known: memory is then taken once, not as it grows. */
  readonly sizeBytes?: number | undefined;
  /** Where large blocks come from and go to; by default each encoding has its own. */
  readonly blocks?: BlockPool;
  readonly signal?: AbortSignal | undefined;
}

/** Blocks of {@link NAR_ENCODING}`.frameBytes` that encodings use one after another. */
export interface BlockPool {
  take(): Buffer;
  give(block: Buffer): void;
}

/** Creates a pool that keeps at most `maxIdle` blocks, of 8 MiB each, while nobody uses them. */
export function createBlockPool(maxIdle: number): BlockPool {
  const idle: Buffer[] = [];
  return {
    take: () => idle.pop() ?? Buffer.allocUnsafeSlow(NAR_ENCODING.frameBytes),
    give: (block) => {
      if (idle.length < maxIdle) idle.push(block);
    },
  };
}

/** The largest output buffer. */
const MAX_PIECE_BYTES = 2 ** 20;
/** The first allocation for a block: most NARs are far smaller than a frame. */
const FIRST_ALLOCATION_BYTES = 64 * 1024;
/** Of a block that needs this much, the memory is worth being used again. */
const POOLED_BYTES = 2 ** 20;

/**
 * Compresses a NAR (any bytes) into its stored encoding: one zstd frame for every 8 MiB of input.
 *
 * The output depends on the input bytes, the level and the zstd version only: not on how the input
 * is cut into chunks, nor on `concurrency`. Every frame has its content size in the header and no
 * checksum, because the whole object is named by its SHA-256. Empty input gives one empty frame.
 * The yielded buffers are frames or pieces of them, of at most 1 MiB, and belong to the consumer; input chunks
 * are copied, so the source may reuse them.
 *
 * @throws {CacheError} `CANCELLED` when `signal` aborts; whatever `source` throws.
 */
export async function* encodeNar(
  source: AsyncIterable<Uint8Array>,
  options: EncodeNarOptions = {},
): AsyncGenerator<Buffer, void, undefined> {
  for await (const frame of encodeNarFrames(source, options)) yield* frame;
}

/** As {@link encodeNar}, frame by frame: each has its pieces in order. */
export async function* encodeNarFrames(
  source: AsyncIterable<Uint8Array>,
  options: EncodeNarOptions = {},
): AsyncGenerator<readonly Buffer[], void, undefined> {
  const { level = NAR_ENCODING.level, concurrency = 2, sizeBytes = 0, signal } = options;
  const blocks = options.blocks ?? createBlockPool(concurrency + 1);
  requireInteger("level", level, 1, 22);
  requireInteger("concurrency", concurrency, 1, 1024);

  const inFlight: Promise<Buffer[]>[] = [];
  let block: Buffer = Buffer.alloc(0);
  let filledBytes = 0;
  let hasFrames = false;

  const startFrame = (): void => {
    const buffer = block;
    const frame = compressFrame(buffer.subarray(0, filledBytes), level).finally(() => {
      if (buffer.length === NAR_ENCODING.frameBytes) blocks.give(buffer);
    });
    // A frame that nobody waits for any more must not end the process.
    frame.catch(() => {});
    inFlight.push(frame);
    hasFrames = true;
    block = Buffer.alloc(0);
    filledBytes = 0;
  };

  for await (const chunk of abortable(source, "Encoding a NAR", signal)) {
    let offset = 0;
    while (offset < chunk.length) {
      if (filledBytes === NAR_ENCODING.frameBytes) {
        if (inFlight.length >= concurrency) yield await takeFirst(inFlight);
        startFrame();
      }
      const pieceBytes = Math.min(chunk.length - offset, NAR_ENCODING.frameBytes - filledBytes);
      if (block.length < filledBytes + pieceBytes) {
        const neededBytes = Math.max(filledBytes + pieceBytes, block.length * 2, sizeBytes);
        const larger = allocate(hasFrames ? NAR_ENCODING.frameBytes : neededBytes, blocks);
        larger.set(block.subarray(0, filledBytes));
        block = larger;
      }
      block.set(chunk.subarray(offset, offset + pieceBytes), filledBytes);
      filledBytes += pieceBytes;
      offset += pieceBytes;
    }
  }
  if (filledBytes > 0 || !hasFrames) {
    if (inFlight.length >= concurrency) yield await takeFirst(inFlight);
    startFrame();
  }
  while (inFlight.length > 0) yield await takeFirst(inFlight);
}

function requireInteger(name: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new RangeError(`${name} must be an integer from ${min} to ${max}, not ${value}`);
  }
}

function takeFirst(frames: Promise<Buffer[]>[]): Promise<Buffer[]> {
  const first = frames.shift();
  if (first === undefined) throw new Error("no frame is in flight");
  return first;
}

/** A buffer for what is expected of a block, or for a whole one. */
function allocate(expectedBytes: number, blocks: BlockPool): Buffer {
  if (expectedBytes > POOLED_BYTES) return blocks.take();
  return Buffer.allocUnsafeSlow(Math.max(expectedBytes, FIRST_ALLOCATION_BYTES));
}

/**
 * Compresses one frame on the thread pool. What it gives is as large as the frame, not as the block: buffers
 * outside of V8's heap are what garbage collections are about here.
 */
function compressFrame(block: Uint8Array, level: number): Promise<Buffer[]> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer[]>();
  const pieces: Buffer[] = [];
  const encoder = createZstdCompress({
    chunkSize: Math.min(block.length + Math.ceil(block.length / 128) + 1024, MAX_PIECE_BYTES),
    // Also bounds the window: zstd takes the level's own (2 MiB at 3), never more than the block.
    // A window of the whole block would save 0.4 % and cost every encoder and decoder 6 MiB.
    pledgedSrcSize: block.length,
    params: {
      [constants.ZSTD_c_compressionLevel]: level,
      [constants.ZSTD_c_contentSizeFlag]: 1,
      [constants.ZSTD_c_checksumFlag]: 0,
    },
  });
  encoder.on("data", (piece: Buffer) => pieces.push(piece));
  encoder.once("end", () => resolve(pieces));
  encoder.once("error", reject);
  encoder.end(block);
  return promise;
}
