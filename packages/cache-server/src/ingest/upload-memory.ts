import { CacheError, createByteBudget } from "@glorious/core";
import { NAR_ENCODING, readZstdWindow } from "@glorious/nix-store";

import type { ObjectCompression } from "../index/cache-index.ts";
import { limitXzDictionaries, readFirstXzDictionary } from "./xz-dictionaries.ts";

/** A stream as it comes from a client. */
export interface IncomingStream {
  readonly source: AsyncIterable<Buffer>;
  readonly compression: ObjectCompression;
  /** Of the NAR, when it is known beforehand. */
  readonly narSize: number | undefined;
  readonly signal: AbortSignal;
}

/** A stream that has the memory it needs until this is disposed of. */
export interface AdmittedStream extends Disposable {
  readonly source: AsyncIterable<Buffer>;
  /** The largest zstd window there is memory for, as a power of two. */
  readonly maxWindowLog: number;
}

/** The memory that all uploads of the server share. Who comes first is served first. */
export interface UploadMemory {
  /**
   * Waits for the memory that taking the stream in needs: its decoder's, or the encoder's when it comes raw.
   *
   * @throws {CacheError} `UNAVAILABLE` when it takes too long, `CANCELLED`, and what the source throws.
   */
  admit(stream: IncomingStream): Promise<AdmittedStream>;
  /** Waits for what encoding an upload again needs. Such work has no client to wait for, so its turn comes. */
  admitEncoding(maxWindowLog: number, narSize: number, signal: AbortSignal): Promise<Disposable>;
}

export interface UploadMemoryOptions {
  readonly totalBytes: number;
  /** Shorter than clients and connections wait. */
  readonly maxWaitMs: number;
  /** Told the bytes taken and the uploads that wait. */
  readonly onChange: (taken: number, waiting: number) => void;
}

const MIB = 2 ** 20;
/** What every encoder by default keeps within. */
const MIN_WINDOW_LOG = 23;
const MAX_WINDOW_LOG = 27;
/** Beside the window or dictionary: chunks, hashes, the store's buffers. */
const STREAM_BYTES = 4 * MIB;
const HEAD_BYTES = 64;

export function createUploadMemory(options: UploadMemoryOptions): UploadMemory {
  const { totalBytes, maxWaitMs, onChange } = options;
  const budget = createByteBudget(totalBytes);
  let waiting = 0;
  const report = (): void => onChange(totalBytes - budget.freeBytes, waiting);

  const acquire = async (sizeBytes: number, signal: AbortSignal): Promise<Disposable> => {
    waiting += 1;
    report();
    try {
      const lease = await budget.acquire(sizeBytes, signal);
      return {
        [Symbol.dispose]: () => {
          lease[Symbol.dispose]();
          report();
        },
      };
    } finally {
      waiting -= 1;
      report();
    }
  };

  return {
    async admit({ source, compression, narSize, signal }) {
      if (compression === "none") {
        const neededBytes = STREAM_BYTES + encoderBytes(narSize ?? Number.POSITIVE_INFINITY);
        const lease = await acquireInTime(acquire, neededBytes, maxWaitMs, signal);
        return admitted(source, MIN_WINDOW_LOG, lease);
      }
      const chunks = source[Symbol.asyncIterator]();
      try {
        const head = await readHead(chunks);
        const maxWindowLog = compression === "zstd" ? windowLogOf(head) : MIN_WINDOW_LOG;
        const tableBytes = compression === "xz" ? readFirstXzDictionary(head) : 2 ** maxWindowLog;
        const lease = await acquireInTime(acquire, STREAM_BYTES + tableBytes, maxWaitMs, signal);
        const whole = putBack(head, chunks);
        const bounded = compression === "xz" ? limitXzDictionaries(whole, tableBytes) : whole;
        return admitted(bounded, maxWindowLog, lease);
      } catch (error) {
        // What is left of a body is for its owner to drop.
        await chunks.return?.();
        throw error;
      }
    },
    admitEncoding: (maxWindowLog, narSize, signal) =>
      acquire(STREAM_BYTES + 2 ** maxWindowLog + encoderBytes(narSize), signal),
  };
}

/** Two frames in flight, each with a block, its window and its output; and a block to fill. */
function encoderBytes(narSize: number): number {
  return 7 * Math.min(narSize, NAR_ENCODING.frameBytes);
}

function windowLogOf(head: Uint8Array): number {
  const windowBytes = readZstdWindow(head) ?? 0;
  const log = Math.ceil(Math.log2(Math.max(1, windowBytes)));
  return Math.min(Math.max(log, MIN_WINDOW_LOG), MAX_WINDOW_LOG);
}

async function readHead(chunks: AsyncIterator<Buffer>): Promise<Buffer> {
  const head: Buffer[] = [];
  for (let sizeBytes = 0; sizeBytes < HEAD_BYTES;) {
    const next = await chunks.next();
    if (next.done === true) break;
    head.push(next.value);
    sizeBytes += next.value.length;
  }
  return Buffer.concat(head);
}

async function* putBack(head: Buffer, chunks: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  if (head.length > 0) yield head;
  yield* { [Symbol.asyncIterator]: () => chunks };
}

function admitted(
  source: AsyncIterable<Buffer>,
  maxWindowLog: number,
  lease: Disposable,
): AdmittedStream {
  return { source, maxWindowLog, [Symbol.dispose]: () => lease[Symbol.dispose]() };
}

async function acquireInTime(
  acquire: (sizeBytes: number, signal: AbortSignal) => Promise<Disposable>,
  sizeBytes: number,
  maxWaitMs: number,
  signal: AbortSignal,
): Promise<Disposable> {
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), maxWaitMs);
  try {
    return await acquire(sizeBytes, AbortSignal.any([signal, late.signal]));
  } catch (cause) {
    if (signal.aborted || !late.signal.aborted) throw cause;
    throw new CacheError("UNAVAILABLE", "Other uploads have taken all memory for uploads", {
      cause,
      hint: "Try again, or send fewer at a time; the server's limits.uploadMemory sets the bound.",
    });
  } finally {
    clearTimeout(timer);
  }
}
