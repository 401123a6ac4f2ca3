import { CacheError } from "@glorious/core";

import {
  encodeNarStrings,
  MAX_NAR_DEPTH,
  narNameProblem,
  narPaddingBytes,
  narTargetProblem,
  showNarPath,
} from "./nar-tokens.ts";

/** One node of the tree to write; `path` is the names from the root, whose own path is `[]`. */
export type NarEntry =
  | { readonly type: "directory"; readonly path: readonly Buffer[] }
  | {
      readonly type: "regular";
      readonly path: readonly Buffer[];
      readonly executable: boolean;
      readonly sizeBytes: number;
      /** Chunks are passed on without a copy: do not write into them again. */
      readonly contents: Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
    }
  | { readonly type: "symlink"; readonly path: readonly Buffer[]; readonly target: Buffer };

/** Every chunk but the last holds at least this much. */
const CHUNK_BYTES = 64 * 1024;

/**
 * Writes a NAR from its nodes, depth first: the root, then each directory's children in ascending byte-wise
 * order of their names, each child followed by its own children.
 *
 * Small pieces are gathered into chunks of 64 KiB; larger contents pass through uncopied, so memory stays
 * bounded whatever the sizes. Names are bytes and written as given: undoing the case hack is for the caller.
 *
 * @throws {CacheError} `INVALID` when nodes are missing, misplaced, out of order or badly named, `UNSUPPORTED` when
 *   directories are nested deeper than current Nix reads, `TRUNCATED` or `CORRUPT` when contents are shorter or
 *   longer than their `sizeBytes`.
 */
export async function* writeNar(
  entries: AsyncIterable<NarEntry> | Iterable<NarEntry>,
): AsyncGenerator<Buffer, void, undefined> {
  const framer = new NarFramer();
  const chunker = new Chunker();
  for await (const entry of entries) {
    chunker.add(framer.open(entry));
    if (entry.type === "regular") {
      let left = entry.sizeBytes;
      if (Symbol.asyncIterator in entry.contents) {
        for await (const piece of entry.contents) {
          left -= piece.length;
          if (left < 0) break;
          chunker.add(piece);
          for (const chunk of chunker.takeFull()) yield chunk;
        }
      } else {
        for (const piece of entry.contents) {
          left -= piece.length;
          if (left < 0) break;
          chunker.add(piece);
          for (const chunk of chunker.takeFull()) yield chunk;
        }
      }
      requireAllContents(entry, left);
      chunker.add(framer.closeRegular(entry));
    }
    for (const chunk of chunker.takeFull()) yield chunk;
  }
  chunker.add(framer.end());
  for (const chunk of chunker.takeAll()) yield chunk;
}

const HEAD = encodeNarStrings("nix-archive-1");
const OPEN_ENTRY = encodeNarStrings("entry", "(", "name");
const NODE = encodeNarStrings("node");
const OPEN_DIRECTORY = encodeNarStrings("(", "type", "directory");
const OPEN_SYMLINK = encodeNarStrings("(", "type", "symlink", "target");
const OPEN_REGULAR = encodeNarStrings("(", "type", "regular", "contents");
const OPEN_EXECUTABLE = encodeNarStrings("(", "type", "regular", "executable", "", "contents");
const CLOSE_NODE = encodeNarStrings(")");
const CLOSE_NODE_AND_ENTRY = encodeNarStrings(")", ")");

/** Writes what stands around contents, and refuses trees that no NAR can hold. */
class NarFramer {
  /** The open directories below the root, outermost first. */
  readonly #open: Buffer[] = [];
  /** The last name written in each open directory, the root's first. */
  readonly #lastNames: (Buffer | undefined)[] = [];
  #hasRoot = false;

  /** Everything between the last node and this node's contents. */
  open(entry: NarEntry): Buffer {
    const { path } = entry;
    const pieces = path.length === 0 ? this.#openRoot() : this.#openChild(path);
    if (entry.type === "directory") {
      pieces.push(OPEN_DIRECTORY);
      const name = path.at(-1);
      if (name !== undefined) this.#open.push(name);
      this.#lastNames.push(undefined);
    } else if (entry.type === "symlink") {
      const problem = narTargetProblem(entry.target);
      if (problem !== undefined) throw invalid(path, problem);
      pieces.push(OPEN_SYMLINK, encodeNarStrings(entry.target), closeOf(path));
    } else {
      if (!Number.isSafeInteger(entry.sizeBytes) || entry.sizeBytes < 0) {
        throw invalid(path, `${entry.sizeBytes} is no file size`);
      }
      pieces.push(entry.executable ? OPEN_EXECUTABLE : OPEN_REGULAR, encodeSize(entry.sizeBytes));
    }
    return Buffer.concat(pieces);
  }

  /** What follows the contents of a file. */
  closeRegular({ path, sizeBytes }: NarEntry & { type: "regular" }): Buffer {
    return Buffer.concat([Buffer.alloc(narPaddingBytes(sizeBytes)), closeOf(path)]);
  }

  /** What follows the last node. */
  end(): Buffer {
    if (!this.#hasRoot) throw new CacheError("INVALID", "A NAR needs a root, and there is none");
    return Buffer.concat(this.#closeDirectories(0));
  }

  #openRoot(): Buffer[] {
    if (this.#hasRoot) throw invalid([], "it comes twice");
    this.#hasRoot = true;
    return [HEAD];
  }

  #openChild(path: readonly Buffer[]): Buffer[] {
    const name = path.at(-1) ?? Buffer.alloc(0);
    const depth = path.length - 1;
    if (this.#lastNames.length <= depth || !this.#isInOpenDirectory(path)) {
      throw invalid(path, "it does not follow its directory");
    }
    const problem = narNameProblem(name);
    if (problem !== undefined) throw invalid(path, problem);
    if (path.length > MAX_NAR_DEPTH) {
      throw new CacheError(
        "UNSUPPORTED",
        `${showNarPath(path)} lies deeper than the ${MAX_NAR_DEPTH} directories Nix reads in a NAR`,
      );
    }
    const last = this.#lastNames[depth];
    if (last !== undefined && Buffer.compare(last, name) >= 0) {
      throw invalid(path, "it does not come after its predecessor in byte-wise order");
    }
    const closing = this.#closeDirectories(depth + 1);
    this.#lastNames[depth] = name;
    return [...closing, OPEN_ENTRY, encodeNarStrings(name), NODE];
  }

  #isInOpenDirectory(path: readonly Buffer[]): boolean {
    return path.every((name, index) => {
      const open = this.#open[index];
      return index === path.length - 1 || open === name || open?.equals(name) === true;
    });
  }

  /** Closes directories until `kept` are open, the root counted. */
  #closeDirectories(kept: number): Buffer[] {
    const pieces: Buffer[] = [];
    while (this.#lastNames.length > kept) {
      this.#lastNames.pop();
      pieces.push(this.#lastNames.length === 0 ? CLOSE_NODE : CLOSE_NODE_AND_ENTRY);
      this.#open.length = Math.max(0, this.#lastNames.length - 1);
    }
    return pieces;
  }
}

function closeOf(path: readonly Buffer[]): Buffer {
  return path.length === 0 ? CLOSE_NODE : CLOSE_NODE_AND_ENTRY;
}

/** Gathers small pieces into chunks of {@link CHUNK_BYTES} and lets large ones pass. */
class Chunker {
  #chunk: Buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  #filled = 0;
  #full: Buffer[] = [];

  add(piece: Uint8Array): void {
    let at = 0;
    while (at < piece.length) {
      if (this.#filled === 0 && piece.length - at >= CHUNK_BYTES) {
        this.#full.push(Buffer.from(piece.buffer, piece.byteOffset + at, piece.length - at));
        return;
      }
      const taken = Math.min(piece.length - at, CHUNK_BYTES - this.#filled);
      this.#chunk.set(piece.subarray(at, at + taken), this.#filled);
      this.#filled += taken;
      at += taken;
      if (this.#filled === CHUNK_BYTES) this.#flush();
    }
  }

  takeFull(): readonly Buffer[] {
    if (this.#full.length === 0) return NO_CHUNKS;
    const full = this.#full;
    this.#full = [];
    return full;
  }

  takeAll(): readonly Buffer[] {
    if (this.#filled > 0) this.#flush();
    return this.takeFull();
  }

  #flush(): void {
    this.#full.push(this.#chunk.subarray(0, this.#filled));
    // The consumer may keep what it was given, so the memory is not used again.
    this.#chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    this.#filled = 0;
  }
}

const NO_CHUNKS: readonly Buffer[] = [];

function encodeSize(sizeBytes: number): Buffer {
  const encoded = Buffer.alloc(8);
  encoded.writeBigUInt64LE(BigInt(sizeBytes));
  return encoded;
}

function requireAllContents(entry: NarEntry & { type: "regular" }, left: number): void {
  if (left === 0) return;
  const [code, word] =
    left > 0 ? (["TRUNCATED", "fewer"] as const) : (["CORRUPT", "more"] as const);
  throw new CacheError(
    code,
    `${showNarPath(entry.path)} has ${word} than its ${entry.sizeBytes} bytes; it may have changed meanwhile`,
  );
}

function invalid(path: readonly Buffer[], reason: string): CacheError {
  return new CacheError("INVALID", `${showNarPath(path)} cannot be written to a NAR: ${reason}`);
}
