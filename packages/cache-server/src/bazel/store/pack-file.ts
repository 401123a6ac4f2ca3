import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";

import { CacheError } from "@glorious/core";
import { type FsyncPolicy, syncDirectory } from "@glorious/storage";

/** At the end of a pack: these letters, how many objects it has, and the checksum of its table. */
const MAGIC = "GFPACK01";
const FOOTER_BYTES = 16;
/** Of the table: an object's id, and where its bytes end. They begin where those before end. */
const ENTRY_BYTES = 8;

/** Where an object's bytes are in a pack. */
export interface PackedPlace {
  readonly start: number;
  readonly end: number;
}

/**
 * A file with the bytes of many objects, which never changes: the bytes one behind the other, then a table of them
 * in order of their ids, then a footer.
 */
export class PackFile implements Disposable {
  readonly path: string;
  readonly count: number;
  /** Of the objects, without the table. */
  readonly dataBytes: number;
  readonly #descriptor: number;
  #table: Uint32Array | undefined;

  private constructor(path: string, descriptor: number, table: Uint32Array) {
    this.path = path;
    this.count = table.length / 2;
    this.dataBytes = table.at(-1) ?? 0;
    this.#descriptor = descriptor;
    this.#table = table;
  }

  /** @throws {CacheError} `CORRUPT` when it is no whole pack; what the operating system throws. */
  static open(path: string): PackFile {
    const descriptor = openSync(path, "r");
    try {
      return new PackFile(path, descriptor, readTable(path, descriptor));
    } catch (error) {
      closeSync(descriptor);
      throw error;
    }
  }

  get tableBytes(): number {
    return this.#table?.byteLength ?? 0;
  }

  /** Gives the table's memory back: from then on it is looked at on the disk. */
  forgetTable(): void {
    this.#table = undefined;
  }

  /** Where an object is; `undefined` when it is not here. */
  find(id: number): PackedPlace | undefined {
    let [from, to] = [0, this.count];
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (this.#word(2 * middle) < id) from = middle + 1;
      else to = middle;
    }
    if (from === this.count || this.#word(2 * from) !== id) return undefined;
    return { start: from === 0 ? 0 : this.#word(2 * from - 1), end: this.#word(2 * from + 1) };
  }

  /** Fills memory with an object's bytes; false when the file has become shorter. */
  readInto(target: Buffer, { start, end }: PackedPlace): boolean {
    return readSync(this.#descriptor, target, 0, end - start, start) === end - start;
  }

  [Symbol.dispose](): void {
    closeSync(this.#descriptor);
  }

  #word(at: number): number {
    if (this.#table !== undefined) return this.#table[at] as number;
    const word = new Uint32Array(1);
    readSync(this.#descriptor, word, 0, 4, this.dataBytes + 4 * at);
    return word[0] as number;
  }
}

function readTable(path: string, descriptor: number): Uint32Array {
  const { size } = fstatSync(descriptor);
  const footer = Buffer.alloc(FOOTER_BYTES);
  readSync(descriptor, footer, 0, FOOTER_BYTES, Math.max(0, size - FOOTER_BYTES));
  const count = footer.readUInt32LE(8);
  const tableAt = size - FOOTER_BYTES - count * ENTRY_BYTES;
  if (footer.toString("latin1", 0, 8) === MAGIC && tableAt >= 0) {
    const table = new Uint32Array(2 * count);
    readSync(descriptor, table, 0, table.byteLength, tableAt);
    if (crc32(table) === footer.readUInt32LE(12) && (table.at(-1) ?? 0) === tableAt) return table;
  }
  throw new CacheError("CORRUPT", `${path} is no whole pack of blobs`, {
    hint: "What it held is uploaded again when it is needed; look after the disk.",
  });
}

/** A pack in the making. Nothing of it is there until `finish` returns. */
export class PackWriter implements AsyncDisposable {
  readonly #path: string;
  readonly #handle: FileHandle;
  readonly #table: number[] = [];
  #dataBytes = 0;
  #isOpen = true;

  private constructor(path: string, handle: FileHandle) {
    this.#path = path;
    this.#handle = handle;
  }

  /** @param path A file that nobody reads before it has its final name. */
  static async create(path: string): Promise<PackWriter> {
    return new PackWriter(path, await open(path, "wx", 0o600));
  }

  get count(): number {
    return this.#table.length / 2;
  }

  get dataBytes(): number {
    return this.#dataBytes;
  }

  /** Adds objects, in order of their ids. */
  async add(objects: readonly { readonly id: number; readonly data: Uint8Array }[]): Promise<void> {
    for (const { id, data } of objects) {
      this.#dataBytes += data.length;
      this.#table.push(id, this.#dataBytes);
    }
    await writeAll(this.#handle, Buffer.concat(objects.map(({ data }) => data)));
  }

  /** Makes it durable under its final name, as the policy asks. */
  async finish(name: string, fsync: FsyncPolicy): Promise<void> {
    const table = Uint32Array.from(this.#table);
    const footer = Buffer.alloc(FOOTER_BYTES);
    footer.write(MAGIC, "latin1");
    footer.writeUInt32LE(this.count, 8);
    footer.writeUInt32LE(crc32(table), 12);
    await writeAll(this.#handle, Buffer.concat([Buffer.from(table.buffer), footer]));
    if (fsync === "full") await this.#handle.sync();
    await this.#close();
    await rename(this.#path, name);
    if (fsync === "full") await syncDirectory(dirname(name));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOpen) return;
    await this.#close();
    await rm(this.#path, { force: true });
  }

  async #close(): Promise<void> {
    this.#isOpen = false;
    await this.#handle.close();
  }
}

async function writeAll(handle: FileHandle, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    at += (await handle.write(bytes, at, bytes.length - at)).bytesWritten;
  }
}
