import { isUtf8 } from "node:buffer";

import { CacheError } from "@glorious/core";

import { createNarReader, type NarHandler, type NarReader } from "./nar-reader.ts";
import { MAX_NAR_DEPTH, showNarPath } from "./nar-tokens.ts";

/** A node of a listing. */
export type NarListingNode =
  | { readonly type: "directory"; readonly entries: ReadonlyMap<string, NarListingNode> }
  | {
      readonly type: "regular";
      readonly sizeBytes: number;
      readonly executable: boolean;
      /** Where its contents start in the NAR; `undefined` in listings that do not say. */
      readonly narOffset: number | undefined;
    }
  | { readonly type: "symlink"; readonly target: string };

/** What a `<hash>.ls` file says: the tree inside a NAR without its contents. */
export interface NarListing {
  readonly version: 1;
  readonly root: NarListingNode;
}

/** How large a listing may grow. */
export interface NarListerLimits {
  /** Nodes in the tree; 250,000 unless given. */
  readonly maxEntries?: number;
  /** Bytes of all names and targets together; 16 MiB unless given. */
  readonly maxTextBytes?: number;
}

/** A NAR reader that makes a listing. */
export interface NarLister {
  /** @throws {CacheError} `CORRUPT`, as {@link NarReader.write} does. */
  write(chunk: Uint8Array): void;
  /**
   * @throws {CacheError} `TRUNCATED` when the NAR is incomplete, `UNSUPPORTED` when a name or target is not UTF-8,
   *   `TOO_LARGE` when a limit was passed. After the last two the NAR itself is complete and sound.
   */
  end(): NarListing;
}

/**
 * Creates a lister: the strict reader of {@link createNarReader}, gathering the tree on the way.
 *
 * What cannot be listed does not stop the reading, so one pass both verifies a NAR and lists it.
 */
export function createNarLister(limits: NarListerLimits = {}): NarLister {
  const gatherer = new Gatherer(limits);
  const reader: NarReader = createNarReader(gatherer);
  return {
    write: (chunk) => reader.write(chunk),
    end() {
      reader.end();
      return { version: 1, root: gatherer.root() };
    },
  };
}

/** Formats a listing byte for byte as Nix since 2.26 writes it: compact JSON, keys in byte-wise order. */
export function formatNarListing(listing: NarListing): string {
  return `{"root":${formatNode(listing.root)},"version":1}`;
}

/**
 * Parses a `.ls` file of any Nix; entries come out in byte-wise order of their names.
 *
 * @throws {CacheError} `CORRUPT` when it is no listing, `UNSUPPORTED` when its version is not 1.
 */
export function parseNarListing(text: string): NarListing {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new CacheError("CORRUPT", "The NAR listing is not JSON", { cause });
  }
  if (!isRecord(value)) throw corrupt([], "it is no object");
  if (value["version"] !== 1) {
    throw new CacheError("UNSUPPORTED", "The NAR listing is not of version 1");
  }
  return { version: 1, root: parseNode(value["root"], []) };
}

class Gatherer implements NarHandler {
  readonly #maxEntries: number;
  readonly #maxTextBytes: number;
  #entries = 0;
  #textBytes = 0;
  #root: NarListingNode | undefined;
  /** The entries of each open directory, the root's first. */
  #open: Map<string, NarListingNode>[] = [];
  /** Why there will be no listing. */
  #obstacle: CacheError | undefined;

  constructor({ maxEntries = 250_000, maxTextBytes = 16 * 2 ** 20 }: NarListerLimits) {
    this.#maxEntries = maxEntries;
    this.#maxTextBytes = maxTextBytes;
  }

  root(): NarListingNode {
    if (this.#obstacle !== undefined) throw this.#obstacle;
    if (this.#root === undefined) throw new Error("root() is for complete NARs");
    return this.#root;
  }

  directory(path: readonly Buffer[]): void {
    const entries = new Map<string, NarListingNode>();
    this.#add(path, { type: "directory", entries });
    this.#open.push(entries);
  }

  endDirectory(): void {
    this.#open.pop();
  }

  symlink(path: readonly Buffer[], target: Buffer): void {
    this.#textBytes += target.length;
    if (!isUtf8(target)) this.#give(notUtf8(path));
    this.#add(path, { type: "symlink", target: target.toString() });
  }

  regular(
    path: readonly Buffer[],
    file: { executable: boolean; sizeBytes: number; narOffset: number },
  ): void {
    this.#add(path, { type: "regular", ...file });
  }

  #add(path: readonly Buffer[], node: NarListingNode): void {
    const name = path.at(-1);
    this.#entries += 1;
    this.#textBytes += name?.length ?? 0;
    if (this.#entries > this.#maxEntries || this.#textBytes > this.#maxTextBytes) {
      this.#give(
        new CacheError(
          "TOO_LARGE",
          `The NAR has no listing: it has more than ${this.#maxEntries} entries or ${this.#maxTextBytes} bytes of names`,
        ),
      );
    }
    if (name !== undefined && !isUtf8(name)) this.#give(notUtf8(path));
    if (this.#obstacle !== undefined) return;
    if (name === undefined) this.#root = node;
    else this.#open.at(-1)?.set(name.toString(), node);
  }

  /** Gives the listing up, not the NAR. */
  #give(obstacle: CacheError): void {
    this.#obstacle ??= obstacle;
    this.#root = undefined;
    for (const entries of this.#open) entries.clear();
  }
}

function formatNode(node: NarListingNode): string {
  if (node.type === "symlink") {
    return `{"target":${JSON.stringify(node.target)},"type":"symlink"}`;
  }
  if (node.type === "regular") {
    const executable = node.executable ? `"executable":true,` : "";
    const narOffset = node.narOffset === undefined ? "" : `"narOffset":${node.narOffset},`;
    return `{${executable}${narOffset}"size":${node.sizeBytes},"type":"regular"}`;
  }
  const entries = [...node.entries].map(
    ([name, child]) => `${JSON.stringify(name)}:${formatNode(child)}`,
  );
  return `{"entries":{${entries.join(",")}},"type":"directory"}`;
}

function parseNode(value: unknown, path: readonly string[]): NarListingNode {
  if (!isRecord(value)) throw corrupt(path, "it is no object");
  if (path.length > MAX_NAR_DEPTH) throw corrupt(path, "it lies too deep");
  const { type, entries, target, size, executable = false, narOffset } = value;
  if (type === "directory" && isRecord(entries)) {
    return { type, entries: parseEntries(entries, path) };
  }
  if (type === "symlink" && typeof target === "string") return { type, target };
  if (
    type === "regular" &&
    isSize(size) &&
    typeof executable === "boolean" &&
    (narOffset === undefined || isSize(narOffset))
  ) {
    return { type, sizeBytes: size, executable, narOffset };
  }
  throw corrupt(path, "it is no directory, regular file or symlink");
}

function parseEntries(
  entries: Record<string, unknown>,
  path: readonly string[],
): Map<string, NarListingNode> {
  const children = Object.entries(entries).map(
    ([name, child]) => [Buffer.from(name), name, parseNode(child, [...path, name])] as const,
  );
  children.sort(([left], [right]) => Buffer.compare(left, right));
  return new Map(children.map(([, name, child]) => [name, child]));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

function notUtf8(path: readonly Buffer[]): CacheError {
  return new CacheError(
    "UNSUPPORTED",
    `The NAR has no listing: ${showNarPath(path)} is not UTF-8, and JSON cannot hold it`,
  );
}

function corrupt(path: readonly string[], reason: string): CacheError {
  const where = showNarPath(path.map((name) => Buffer.from(name)));
  return new CacheError("CORRUPT", `The NAR listing is corrupt at ${where}: ${reason}`);
}
