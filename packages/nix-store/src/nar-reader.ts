import { CacheError } from "@glorious/core";

import { NAR_END, NAR_START, type NarStep, NarTree } from "./nar-grammar.ts";
import { MAX_NAR_TARGET_BYTES, narPaddingBytes, showNarPath } from "./nar-tokens.ts";

/**
 * What a NAR reader reports, in the order of the NAR.
 *
 * A `path` is the names from the root, whose own path is `[]`; it and the `target` may be kept. A thrown
 * error stops the reader and reaches whoever called `write`.
 */
export interface NarHandler {
  directory?(path: readonly Buffer[]): void;
  symlink?(path: readonly Buffer[], target: Buffer): void;
  /** `narOffset` is where the contents start in the NAR. */
  regular?(path: readonly Buffer[], file: NarRegularFile): void;
  /** The next bytes of the file last reported; a view of what was written, valid during the call. */
  contents?(chunk: Uint8Array): void;
  endRegular?(): void;
  endDirectory?(): void;
}

/** A regular file of a NAR, before its contents. */
export interface NarRegularFile {
  readonly executable: boolean;
  readonly sizeBytes: number;
  /** Byte offset of the contents in the NAR. */
  readonly narOffset: number;
}

/** A push parser: bytes go in through `write`, events come out at the handler. */
export interface NarReader {
  /**
   * Takes the next bytes, cut anywhere.
   *
   * @throws {CacheError} `CORRUPT` as soon as the bytes cannot belong to a NAR; every later call throws it again.
   */
  write(chunk: Uint8Array): void;
  /** @throws {CacheError} `TRUNCATED` when the NAR is not complete. */
  end(): void;
  /** Whether a complete NAR has been read. */
  readonly done: boolean;
}

/**
 * Creates a reader that accepts exactly the NARs a correct writer makes and holds at most a few KiB.
 *
 * Refused, beside broken grammar: padding that is not zero, entries out of byte-wise order or named twice,
 * names that are empty, `.`, `..`, too long or hold a slash or NUL, unusable symlink targets, directories
 * nested too deep, and bytes after the end (Nix ignores those). Names that differ only in case, and the
 * suffix of Nix's case hack, are a matter of the file system and pass.
 *
 * @see `src/libutil/archive.cc` in NixOS/nix, since 2.34 for the limits.
 */
export function createNarReader(handler: NarHandler): NarReader {
  return new NarParser(handler);
}

const MAX_TOKEN_BYTES = 8 + MAX_NAR_TARGET_BYTES + narPaddingBytes(MAX_NAR_TARGET_BYTES);

/** Cuts the byte stream into the tokens the grammar asks for. */
class NarParser implements NarReader {
  readonly #tree: NarTree;
  #step: NarStep = NAR_START;
  /** The start of a token that the end of a chunk cut, until the rest of it comes. */
  readonly #held: Buffer = Buffer.allocUnsafe(MAX_TOKEN_BYTES);
  #heldBytes = 0;
  #failure: unknown;

  constructor(handler: NarHandler) {
    this.#tree = new NarTree(handler);
  }

  get done(): boolean {
    return this.#step === NAR_END && this.#failure === undefined;
  }

  write(chunk: Uint8Array): void {
    if (this.#failure !== undefined) throw this.#failure;
    const { buffer, byteOffset, byteLength } = chunk;
    try {
      this.#consume(Buffer.isBuffer(chunk) ? chunk : Buffer.from(buffer, byteOffset, byteLength));
    } catch (error) {
      this.#failure = error;
      throw error;
    }
  }

  end(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#step === NAR_END) return;
    throw new CacheError(
      "TRUNCATED",
      `The NAR ends after ${this.#tree.offset + this.#heldBytes} bytes, inside ${showNarPath(this.#tree.path)}`,
    );
  }

  #consume(chunk: Buffer): void {
    const tree = this.#tree;
    let at = 0;
    while (at < chunk.length) {
      const available = chunk.length - at;
      if (tree.contentsLeft > 0) {
        at += tree.takeContents(chunk, at);
      } else if (this.#heldBytes > 0) {
        at += this.#complete(chunk, at);
      } else {
        const needed = tokenBytes(this.#step, tree, chunk, at, available);
        if (needed > available) {
          this.#heldBytes = chunk.copy(this.#held, 0, at);
          return;
        }
        this.#take(chunk, at, needed);
        at += needed;
      }
    }
  }

  /** Adds to the cut token what it still needs; returns how many bytes that took. */
  #complete(chunk: Buffer, at: number): number {
    const needed = tokenBytes(this.#step, this.#tree, this.#held, 0, this.#heldBytes);
    const missing = needed - this.#heldBytes;
    const taken = chunk.copy(this.#held, this.#heldBytes, at, at + missing);
    this.#heldBytes += taken;
    // A string asks for its length first; knowing that, it may ask for more.
    if (tokenBytes(this.#step, this.#tree, this.#held, 0, this.#heldBytes) === this.#heldBytes) {
      this.#take(this.#held, 0, this.#heldBytes);
      this.#heldBytes = 0;
    }
    return taken;
  }

  #take(source: Buffer, at: number, bytes: number): void {
    this.#step = this.#step.take(this.#tree, source, at, bytes);
    this.#tree.offset += bytes;
  }
}

/** How many bytes the next token takes, as far as the `available` ones tell. */
function tokenBytes(
  step: NarStep,
  tree: NarTree,
  source: Buffer,
  at: number,
  available: number,
): number {
  if (step.fixedBytes !== undefined) return step.fixedBytes;
  if (available < 8) return 8;
  const length = source.readUInt32LE(at);
  if (length > step.maxBytes || source.readUInt32LE(at + 4) !== 0) {
    throw tree.corrupt(`${step.name} is longer than ${step.maxBytes} bytes`);
  }
  return 8 + length + narPaddingBytes(length);
}
