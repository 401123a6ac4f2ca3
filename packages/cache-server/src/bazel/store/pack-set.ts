import { randomBytes } from "node:crypto";
import { readdirSync, renameSync, rmSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";

import { CacheError, isCacheError, type Logger } from "@glorious/core";
import { type FsyncPolicy, makeDurableDirectory } from "@glorious/storage";

import type { MemoryPool, MemoryShare, MemoryUser } from "../memory/memory-pool.ts";
import { PackFile, PackWriter } from "./pack-file.ts";

/** Names of packs: the first and the last id that may be there, and how often it was written anew. */
const NAME = /^(\d{10})-(\d{10})-(\d{6})$/;
/** Of what is read one piece after the other: an own piece of memory for each costs twice the read. */
const SLAB_BYTES = 64 * 1024;

interface Pack {
  readonly first: number;
  readonly last: number;
  readonly generation: number;
  readonly file: PackFile;
}

export interface PackSetOptions {
  /** Holds packs and nothing else; made when absent. */
  readonly directory: string;
  /** The greatest id that the index has given: what has a greater one is of another index, as after a restore. */
  readonly lastGivenId: number;
  /** Of memory, for tables of packs; what lies in packs without one takes longer to find. */
  readonly maxTableBytes: number;
  /** Shared with others, who may need it more. */
  readonly memory: MemoryPool;
  readonly fsync: FsyncPolicy;
  readonly logger: Logger;
}

/** The packs of one tenant, which hold the bytes of small objects by their ids. No two hold the same ids. */
export class PackSet implements Disposable, MemoryUser {
  readonly #options: PackSetOptions;
  /** In order of their ids. */
  readonly #packs: Pack[] = [];
  /** Always: nothing of what is packed is found fast without them. */
  readonly usedAtMs: number = Infinity;
  readonly #memory: MemoryShare & Disposable;
  #tableBytes = 0;
  #slab: Buffer = Buffer.alloc(0);
  #slabAt = 0;

  private constructor(options: PackSetOptions) {
    this.#options = options;
    this.#memory = options.memory.join(this);
  }

  /** Opens what is there; a pack that is damaged is not, and what it held is lost. */
  static async open(options: PackSetOptions): Promise<PackSet> {
    const { directory, fsync } = options;
    await makeDurableDirectory(directory, fsync);
    const set = new PackSet(options);
    for (const name of readdirSync(directory).toSorted()) {
      const last = Number(NAME.exec(name)?.[2] ?? Infinity);
      if (last <= options.lastGivenId) set.#open(name);
      // What a crash cut short, or what would be taken for objects that are still to come.
      else rmSync(join(directory, name), { force: true });
    }
    return set;
  }

  /** No object with a greater id lies in a pack. */
  get lastId(): number {
    return this.#packs.at(-1)?.last ?? 0;
  }

  get ranges(): readonly {
    readonly first: number;
    readonly last: number;
    readonly dataBytes: number;
  }[] {
    return this.#packs.map(({ first, last, file }) => ({ first, last, dataBytes: file.dataBytes }));
  }

  /**
   * An object's bytes, `undefined` when no pack has them.
   *
   * @throws {CacheError} `UNAVAILABLE` when the disk does not answer.
   */
  read(id: number): Buffer | undefined {
    const pack = this.#packOf(id);
    const place = pack?.file.find(id);
    if (pack === undefined || place === undefined) return undefined;
    const bytes = this.#take(place.end - place.start);
    try {
      return pack.file.readInto(bytes, place) ? bytes : undefined;
    } catch (cause) {
      throw new CacheError("UNAVAILABLE", `${pack.file.path} cannot be read`, {
        hint: "Look after the disk.",
        cause,
      });
    }
  }

  /** Whether a pack has an object. */
  has(id: number): boolean {
    return this.#packOf(id)?.file.find(id) !== undefined;
  }

  startPack(): Promise<PackWriter> {
    const name = `${randomBytes(8).toString("hex")}.tmp`;
    return PackWriter.create(join(this.#options.directory, name));
  }

  /** Makes a pack that is written a part of this; durable when it returns. It takes the place of one of the same ids. */
  async finishPack(
    writer: PackWriter,
    { first, last }: { readonly first: number; readonly last: number },
  ): Promise<void> {
    const { directory, fsync } = this.#options;
    const before = this.#packs.find((pack) => pack.first === first);
    const name = nameOf(first, last, (before?.generation ?? 0) + 1);
    await writer.finish(join(directory, name), fsync);
    if (this.#open(name)) return;
    throw new CacheError("UNAVAILABLE", `A pack in ${directory} is not what was written`, {
      hint: "Look after the disk.",
    });
  }

  /** Deletes a pack that nobody needs anything of. */
  async deletePack(first: number): Promise<void> {
    const at = this.#packs.findIndex((pack) => pack.first === first);
    const pack = this.#packs[at];
    if (pack === undefined) return;
    this.#packs.splice(at, 1);
    this.#discard(pack);
    await rm(pack.file.path, { force: true });
  }

  [Symbol.dispose](): void {
    for (const { file } of this.#packs.splice(0)) file[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
  }

  /** Gives back the tables of the oldest packs, which are asked for least. */
  release(sizeBytes: number): void {
    const leftBytes = this.#tableBytes - sizeBytes;
    for (const { file } of this.#packs) {
      if (this.#tableBytes <= leftBytes) break;
      this.#count(-file.tableBytes);
      file.forgetTable();
    }
  }

  /** False when it is damaged. */
  #open(name: string): boolean {
    const { directory, logger, maxTableBytes } = this.#options;
    const [, first, last, generation] = NAME.exec(name) ?? [];
    let file: PackFile;
    try {
      file = PackFile.open(join(directory, name));
    } catch (error) {
      if (!isCacheError(error, "CORRUPT")) throw error;
      logger.error("A pack of small blobs is damaged, and what it held is absent", { name, error });
      // The next start deletes it.
      renameSync(join(directory, name), join(directory, `${name}.damaged`));
      return false;
    }
    const pack = { first: Number(first), last: Number(last), generation: Number(generation), file };
    const at = this.#packs.findIndex((each) => each.first >= pack.first);
    const other = this.#packs[at];
    if (other?.first === pack.first) {
      this.#packs[at] = pack;
      this.#discard(other);
      rmSync(other.file.path, { force: true });
    } else this.#packs.splice(at < 0 ? this.#packs.length : at, 0, pack);
    if (!this.#memory.hasRoom(file.tableBytes)) file.forgetTable();
    this.#count(file.tableBytes);
    if (this.#tableBytes > maxTableBytes) this.release(this.#tableBytes - maxTableBytes);
    return true;
  }

  #discard({ file }: Pack): void {
    this.#count(-file.tableBytes);
    file[Symbol.dispose]();
  }

  #count(tableBytes: number): void {
    this.#tableBytes += tableBytes;
    this.#memory.take(tableBytes);
  }

  #packOf(id: number): Pack | undefined {
    const packs = this.#packs;
    let [from, to] = [0, packs.length];
    while (from < to) {
      const middle = (from + to) >>> 1;
      if ((packs[middle] as Pack).last < id) from = middle + 1;
      else to = middle;
    }
    const pack = packs[from];
    return pack !== undefined && pack.first <= id ? pack : undefined;
  }

  #take(bytes: number): Buffer {
    if (bytes > SLAB_BYTES / 2) return Buffer.allocUnsafeSlow(bytes);
    if (this.#slabAt + bytes > this.#slab.length) {
      this.#slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
      this.#slabAt = 0;
    }
    const taken = this.#slab.subarray(this.#slabAt, this.#slabAt + bytes);
    this.#slabAt += Math.ceil(bytes / 8) * 8;
    return taken;
  }
}

function nameOf(first: number, last: number, generation: number): string {
  const digits = (value: number, length: number): string => String(value).padStart(length, "0");
  return `${digits(first, 10)}-${digits(last, 10)}-${digits(generation, 6)}`;
}
