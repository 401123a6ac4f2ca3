import { randomUUID } from "node:crypto";
import { type FileHandle, open, unlink } from "node:fs/promises";
import path from "node:path";

import { CacheError } from "@glorious/core";

/** One NAR on its way through the spool: written once, from the front, and read by one while it is written. */
export interface SpooledNar {
  /** @throws {CacheError} `STORAGE_FULL` beyond what was reserved. */
  append(chunk: Buffer): Promise<void>;
  /** All of it is here. */
  complete(): void;
  /** It will not be completed; readers hear of it, its room is free. */
  fail(error: CacheError): void;
  readonly state: "growing" | "complete" | "failed";
  readonly writtenBytes: number;
  /** Resolves when it is complete or has failed. */
  readonly settled: Promise<void>;
  /**
   * The bytes from `start` to `end`, as they come; a chunk is good until the next is asked for.
   *
   * @throws {CacheError} what it failed with.
   */
  read(start: number, end?: number): AsyncGenerator<Buffer, void, undefined>;
  /** Gives its room back. Reads that are under way fail. */
  release(): Promise<void>;
}

/** A bounded room for NARs that are read ahead: small ones in memory, others in files that nobody else can open. */
export interface Spool extends AsyncDisposable {
  /** Room for a NAR of at most that size; `undefined` when there is none at present. */
  reserve(sizeBytes: number): SpooledNar | undefined;
  /** Reserved and not given back. */
  readonly usedBytes: number;
}

/** Options of {@link createSpool}. */
export interface SpoolOptions {
  readonly directory: string;
  readonly maxBytes: number;
}

/** A file of its own would cost more than the bytes. */
const IN_MEMORY_BYTES = 256 * 1024;
const MAX_MEMORY_BYTES = 16 * 2 ** 20;
const MAX_FILES = 256;
const READ_BYTES = 256 * 1024;
const NO_BYTES = Buffer.alloc(0);

/** An empty spool. */
export function createSpool({ directory, maxBytes }: SpoolOptions): Spool {
  const entries = new Set<Entry>();
  let usedBytes = 0;
  let memoryBytes = 0;
  let files = 0;
  return {
    reserve(sizeBytes) {
      const isSmall = sizeBytes <= IN_MEMORY_BYTES && memoryBytes + sizeBytes <= MAX_MEMORY_BYTES;
      if (usedBytes + sizeBytes > maxBytes || (!isSmall && files >= MAX_FILES)) return undefined;
      usedBytes += sizeBytes;
      if (isSmall) memoryBytes += sizeBytes;
      else files += 1;
      const entry = new Entry({
        sizeBytes,
        storage: isSmall ? new MemoryStorage() : new FileStorage(directory),
        onReleased: () => {
          entries.delete(entry);
          usedBytes -= sizeBytes;
          if (isSmall) memoryBytes -= sizeBytes;
          else files -= 1;
        },
      });
      entries.add(entry);
      return entry;
    },
    get usedBytes() {
      return usedBytes;
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([...entries].map((entry) => entry.release()));
    },
  };
}

interface Storage {
  append(chunk: Buffer, position: number): Promise<void>;
  /** At least one byte from there, and at most as many as fit into the buffer, which may be used for them. */
  read(position: number, into: Buffer): Promise<Buffer>;
  close(): Promise<void>;
}

class Entry implements SpooledNar {
  state: "growing" | "complete" | "failed" = "growing";
  writtenBytes = 0;
  readonly settled: Promise<void>;
  readonly #sizeBytes: number;
  readonly #storage: Storage;
  readonly #onReleased: () => void;
  readonly #settle: () => void;
  #error: CacheError | undefined;
  #wake: (() => void)[] = [];
  #busy: Promise<unknown> = Promise.resolve();
  #releasing: Promise<void> | undefined;

  constructor(options: {
    readonly sizeBytes: number;
    readonly storage: Storage;
    readonly onReleased: () => void;
  }) {
    this.#sizeBytes = options.sizeBytes;
    this.#storage = options.storage;
    this.#onReleased = options.onReleased;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.settled = promise;
    this.#settle = resolve;
  }

  async append(chunk: Buffer): Promise<void> {
    if (this.#error !== undefined) throw this.#error;
    if (this.writtenBytes + chunk.length > this.#sizeBytes) {
      throw new CacheError("STORAGE_FULL", `More than the ${this.#sizeBytes} bytes announced came`);
    }
    await this.#use(() => this.#storage.append(chunk, this.writtenBytes));
    this.writtenBytes += chunk.length;
    this.#changed();
  }

  complete(): void {
    if (this.state !== "growing") return;
    this.state = "complete";
    this.#settle();
    this.#changed();
  }

  fail(error: CacheError): void {
    this.#giveUp(error);
    void this.release();
  }

  #giveUp(error: CacheError): void {
    if (this.#error !== undefined) return;
    this.state = "failed";
    this.#error = error;
    this.#settle();
    this.#changed();
  }

  async *read(start: number, end = Infinity): AsyncGenerator<Buffer, void, undefined> {
    let position = start;
    let buffer = NO_BYTES;
    for (;;) {
      if (this.#error !== undefined) throw this.#error;
      const available = Math.min(this.writtenBytes, end) - position;
      if (available > 0) {
        const bytes = Math.min(available, READ_BYTES);
        if (buffer.length < bytes) buffer = Buffer.allocUnsafe(bytes);
        const into = buffer.subarray(0, bytes);
        const chunk = await this.#use(() => this.#storage.read(position, into));
        position += chunk.length;
        yield chunk;
      } else if (this.state === "complete" || position >= end) {
        return;
      } else {
        await new Promise<void>((resolve) => this.#wake.push(resolve));
      }
    }
  }

  release(): Promise<void> {
    this.#releasing ??= this.#close();
    return this.#releasing;
  }

  async #close(): Promise<void> {
    this.#giveUp(new CacheError("CANCELLED", "The spool gave the NAR up"));
    await this.#busy;
    await this.#storage.close();
    this.#onReleased();
  }

  /** Nothing is closed while it is written or read. */
  #use<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = work();
    this.#busy = Promise.allSettled([this.#busy, result]);
    return result;
  }

  #changed(): void {
    const wake = this.#wake;
    this.#wake = [];
    for (const resolve of wake) resolve();
  }
}

class MemoryStorage implements Storage {
  #bytes = Buffer.alloc(0);

  append(chunk: Buffer): Promise<void> {
    // A copy, as a piece may be a view of something much larger.
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    return Promise.resolve();
  }

  read(position: number, into: Buffer): Promise<Buffer> {
    return Promise.resolve(this.#bytes.subarray(position, position + into.length));
  }

  close(): Promise<void> {
    this.#bytes = Buffer.alloc(0);
    return Promise.resolve();
  }
}

/** A file without a name: it is gone with the process, however that ends. */
class FileStorage implements Storage {
  readonly #directory: string;
  #file: Promise<FileHandle> | undefined;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async append(chunk: Buffer, position: number): Promise<void> {
    this.#file ??= openNameless(this.#directory);
    const file = await this.#file;
    for (let done = 0; done < chunk.length;) {
      const { bytesWritten } = await file.write(chunk, done, chunk.length - done, position + done);
      done += bytesWritten;
    }
  }

  async read(position: number, into: Buffer): Promise<Buffer> {
    const file = await this.#file;
    const bytesRead = (await file?.read(into, 0, into.length, position))?.bytesRead ?? 0;
    if (bytesRead === 0) throw new CacheError("TRUNCATED", "The spool's file is too short");
    return into.subarray(0, bytesRead);
  }

  async close(): Promise<void> {
    const file = await this.#file?.catch(() => undefined);
    await file?.close();
  }
}

async function openNameless(directory: string): Promise<FileHandle> {
  const name = path.join(directory, `nar-${randomUUID()}`);
  const file = await open(name, "wx+", 0o600);
  await unlink(name);
  return file;
}
