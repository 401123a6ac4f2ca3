import type { Writable } from "node:stream";

import { CacheError, cancelledError } from "@glorious/core";

import type { Blob, ByteRange, StreamOptions } from "./blob-store.ts";
import type { ChunkBuffers } from "./chunk-buffers.ts";
import { sendRange } from "./file-blob-sender.ts";
import type { OpenFile } from "./open-file.ts";
import { fromReadError } from "./system-errors.ts";

/** Chunks of a stream, which belong to its consumer. */
const CHUNK_BYTES = 512 * 1024;

/** What {@link FileBlob} reads. */
export interface FileBlobOptions {
  readonly key: string;
  readonly range: ByteRange;
  readonly signal: AbortSignal | undefined;
}

/** A range of an open file. It owns the file and closes it after reading, or when disposed of. */
export class FileBlob implements Blob {
  readonly sizeBytes: number;
  readonly range: ByteRange;
  readonly #key: string;
  readonly #file: OpenFile;
  readonly #signal: AbortSignal | undefined;
  #isUsed = false;

  constructor(file: OpenFile, options: FileBlobOptions) {
    this.#file = file;
    this.#key = options.key;
    this.#signal = options.signal;
    this.sizeBytes = file.sizeBytes;
    this.range = options.range;
  }

  stream({ chunkBytes = CHUNK_BYTES, buffers }: StreamOptions = {}): AsyncIterable<Buffer> {
    this.#use();
    return this.#chunks(chunkBytes, buffers);
  }

  async sendTo(writable: Writable, signal?: AbortSignal): Promise<void> {
    this.#use();
    try {
      const signals = [signal, this.#signal === signal ? undefined : this.#signal];
      const present = signals.filter((each) => each !== undefined);
      for (const each of present) this.#requireWanted(each);
      const read = this.#read.bind(this);
      await sendRange({ key: this.#key, range: this.range, read }, writable, present);
    } finally {
      this.#file.close();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#file.close();
    return Promise.resolve();
  }

  #use(): void {
    if (this.#isUsed) throw new Error(`The blob ${this.#key} was read already`);
    this.#isUsed = true;
  }

  async *#chunks(
    chunkBytes: number,
    buffers: ChunkBuffers | undefined,
  ): AsyncGenerator<Buffer, void, undefined> {
    let position = this.range.start;
    const readNext = async (): Promise<Buffer> => {
      const bytes = Math.min(chunkBytes, this.range.end - position);
      const chunk = buffers?.take().subarray(0, bytes) ?? Buffer.allocUnsafe(bytes);
      return chunk.subarray(0, await this.#read(chunk, position));
    };
    let reading: Promise<Buffer> | undefined;
    try {
      while (position < this.range.end) {
        const chunk = await (reading ?? readNext());
        position += chunk.length;
        reading = position < this.range.end ? readNext() : undefined;
        // Its error is thrown when the consumer comes for it.
        reading?.catch(() => {});
        this.#requireWanted(this.#signal);
        yield chunk;
      }
    } finally {
      this.#file.close();
      if (buffers !== undefined) reading?.then((chunk) => buffers.give(chunk)).catch(() => {});
    }
  }

  /** Reads at least one byte. */
  async #read(into: Buffer, position: number): Promise<number> {
    let bytesRead: number;
    try {
      bytesRead = await this.#file.read(into, position);
    } catch (error) {
      throw fromReadError(error, this.#key);
    }
    if (bytesRead > 0) return bytesRead;
    throw new CacheError(
      "CORRUPT",
      `The blob ${this.#key} ends at byte ${position}, it had ${this.sizeBytes} bytes when it was opened`,
      { hint: "Something else writes to the data directory; put the blob again." },
    );
  }

  #requireWanted(signal: AbortSignal | undefined): void {
    if (signal?.aborted === true) throw cancelledError(`Reading ${this.#key}`, signal);
  }
}
