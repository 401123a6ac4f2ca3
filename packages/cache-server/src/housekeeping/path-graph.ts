import type { GraphNode } from "../index/housekeeping-index.ts";
import { grow, KeyTable } from "./key-table.ts";

const NIX32 = "0123456789abcdfghijklmnpqrsvwxyz";
const NIX32_VALUES: Uint8Array = Uint8Array.from({ length: 128 }, (_, code) =>
  Math.max(0, NIX32.indexOf(String.fromCharCode(code))),
);
const HASH_LENGTH = 32;
const PATH_WORDS = 5;
/** Half a SHA-256: nobody finds two NARs that share it. */
const NAR_WORDS = 4;
/** Where the references of a path begin that is only referred to. */
const ABSENT = 2 ** 32 - 1;

/**
 * The paths of a view and what refers to what, in arrays of numbers: about 130 bytes for a path with six references,
 * and 200 while they are sorted.
 *
 * Paths have ids in the order in which they were first named, be it as a reference. Those that are only named are
 * absent.
 */
export class PathGraph {
  readonly #paths: KeyTable;
  readonly #nars: KeyTable;
  readonly #key = new Uint32Array(PATH_WORDS);
  readonly #narKey = new Uint32Array(NAR_WORDS);
  #present = 0;
  #accessedAtMs = new Float64Array(1024);
  #narOf = new Uint32Array(1024);
  #narBytes = new Float64Array(1024);
  #edgesBegin = new Uint32Array(1024).fill(ABSENT);
  #edgesEnd = new Uint32Array(1024);
  #edges = new Uint32Array(4096);
  #edgeCount = 0;

  /** @param pathCount About how many paths will come; more are taken in too, with a hitch now and then. */
  constructor(pathCount = 0) {
    this.#paths = new KeyTable(PATH_WORDS, pathCount);
    this.#nars = new KeyTable(NAR_WORDS, pathCount);
  }

  /** Takes in a path; each once. */
  add(node: GraphNode): void {
    const id = this.#pathId(node.storePathHash);
    this.#accessedAtMs[id] = node.accessedAtMs;
    const nar = this.#narId(node.narHash);
    this.#narOf[id] = nar;
    this.#narBytes = grow(this.#narBytes, nar + 1);
    this.#narBytes[nar] = node.fileSize;
    this.#edges = grow(this.#edges, this.#edgeCount + node.references.length);
    this.#edgesBegin[id] = this.#edgeCount;
    for (const reference of node.references) {
      const target = this.#pathId(reference);
      if (target === id) continue;
      this.#edges[this.#edgeCount] = target;
      this.#edgeCount += 1;
    }
    this.#edgesEnd[id] = this.#edgeCount;
    this.#present += 1;
  }

  /** How many ids there are, absent ones too. */
  get idCount(): number {
    return this.#paths.size;
  }

  /** How many paths were taken in. */
  get pathCount(): number {
    return this.#present;
  }

  get narCount(): number {
    return this.#nars.size;
  }

  isPresent(id: number): boolean {
    return this.#edgesBegin[id] !== ABSENT;
  }

  accessedAtMs(id: number): number {
    return this.#accessedAtMs[id] ?? 0;
  }

  /** The NAR of a path: a number below `narCount`. */
  narOf(id: number): number {
    return this.#narOf[id] ?? 0;
  }

  /** Stored bytes. */
  narBytes(nar: number): number {
    return this.#narBytes[nar] ?? 0;
  }

  /** Where in `reference` a present path's references begin. */
  referencesBegin(id: number): number {
    return this.#edgesBegin[id] ?? 0;
  }

  referencesEnd(id: number): number {
    return this.#edgesEnd[id] ?? 0;
  }

  /** A reference, never of a path to itself; the path may be absent. */
  reference(position: number): number {
    return this.#edges[position] ?? 0;
  }

  /** The id of a path; an absent one gets an id. */
  idOf(storePathHash: string): number {
    return this.#pathId(storePathHash);
  }

  storePathHashOf(id: number): string {
    this.#paths.read(id, this.#key);
    return unpackHash(this.#key);
  }

  #pathId(storePathHash: string): number {
    packHash(storePathHash, this.#key);
    const id = this.#paths.intern(this.#key);
    if (id < this.#edgesBegin.length) return id;
    const before = this.#edgesBegin.length;
    this.#edgesBegin = grow(this.#edgesBegin, id + 1);
    this.#edgesBegin.fill(ABSENT, before);
    this.#edgesEnd = grow(this.#edgesEnd, id + 1);
    this.#accessedAtMs = grow(this.#accessedAtMs, id + 1);
    this.#narOf = grow(this.#narOf, id + 1);
    return id;
  }

  #narId(narHash: string): number {
    for (let word = 0; word < NAR_WORDS; word += 1) {
      this.#narKey[word] = Number.parseInt(narHash.slice(8 * word, 8 * word + 8), 16);
    }
    return this.#nars.intern(this.#narKey);
  }
}

/** Writes the 160 bits of a store path hash, 5 a character, into words. */
function packHash(hash: string, into: Uint32Array): void {
  let bits = 0;
  let filled = 0;
  let word = 0;
  for (let at = 0; at < HASH_LENGTH; at += 1) {
    const value = NIX32_VALUES[hash.charCodeAt(at) & 127] ?? 0;
    const free = 32 - filled;
    if (free > 5) {
      bits = (bits << 5) | value;
      filled += 5;
      continue;
    }
    const rest = 5 - free;
    into[word] = (bits << free) | (value >>> rest);
    word += 1;
    bits = value & ((1 << rest) - 1);
    filled = rest;
  }
}

function unpackHash(words: Uint32Array): string {
  let hash = "";
  for (let at = 0; at < HASH_LENGTH; at += 1) {
    const bit = 5 * at;
    const word = bit >>> 5;
    const shift = 27 - (bit & 31);
    const first = words[word] ?? 0;
    const value =
      shift >= 0 ? first >>> shift : (first << -shift) | ((words[word + 1] ?? 0) >>> (32 + shift));
    hash += NIX32.charAt(value & 31);
  }
  return hash;
}
