import { hash } from "node:crypto";

/** How much there is to ask for. Small blobs and blobs of 4 KiB together are the index's size. */
export interface Scale {
  readonly smallBlobs: number;
  readonly blobs4KiB: number;
  readonly blobs1MiB: number;
  /** Actions that are asked for; {@link isMissing} says which were never stored. */
  readonly actions: number;
}

export const FULL: Scale = {
  smallBlobs: 800_000,
  blobs4KiB: 200_000,
  blobs1MiB: 192,
  actions: 300_000,
};
export const QUICK: Scale = {
  smallBlobs: 40_000,
  blobs4KiB: 10_000,
  blobs1MiB: 32,
  actions: 20_000,
};

export type BlobKind = "small" | "4 KiB" | "1 MiB" | "1 MiB zstd" | "action" | "new";

const SIZES: Readonly<Record<BlobKind, number>> = {
  small: 100,
  "4 KiB": 4096,
  "1 MiB": 2 ** 20,
  "1 MiB zstd": 2 ** 20,
  action: 140,
  new: 100,
};

/** Hexadecimal digits of noise: zstd makes about half of it, as of many outputs. */
const NOISE = makeNoise(2 ** 20);

/** The content with this number. Even numbers belong to the first tenant, odd ones to the second. */
export function contentOf(kind: BlobKind, id: number, sizeBytes = SIZES[kind]): Buffer {
  const content = Buffer.from(NOISE.subarray(0, sizeBytes));
  content.write(`${kind} ${id}\n`, "latin1");
  return content;
}

export function sizeOf(kind: BlobKind): number {
  return SIZES[kind];
}

export function sha256(content: Uint8Array): string {
  return hash("sha256", content, "hex");
}

/** Hashes of contents, made once: 32 bytes each. */
export class Hashes {
  readonly #bytes: Buffer;

  constructor(kind: BlobKind, count: number) {
    this.#bytes = Buffer.allocUnsafe(count * 32);
    const content = contentOf(kind, 0);
    for (let id = 0; id < count; id += 1) {
      content.write(NOISE_HEAD, "latin1");
      content.write(`${kind} ${id}\n`, "latin1");
      this.#bytes.write(sha256(content), id * 32, "hex");
    }
  }

  of(id: number): string {
    return this.#bytes.toString("hex", id * 32, id * 32 + 32);
  }
}

const NOISE_HEAD = NOISE.toString("latin1", 0, 64);

/** Whether an action of this number was never stored: three in ten of each tenant. */
export function isMissing(id: number): boolean {
  return Math.floor(id / 2) % 10 < 3;
}

/** How keys are chosen. */
export type Distribution = "uniform" | "zipf";

/**
 * Makes a function that gives numbers below `count` of one parity after the other: each once before any comes
 * again, or by Zipf's law with exponent 1, the first ones scattered over all.
 */
export function chooser(
  distribution: Distribution,
  count: number,
  seed: number,
): (parity: number) => number {
  const half = Math.floor(count / 2);
  const step = coprimeStep(half);
  if (distribution === "uniform") {
    const drawn = [(seed * 104_729) % half, (seed * 1_299_709) % half];
    return (parity) => {
      const at = drawn[parity] ?? 0;
      drawn[parity] = (at + step) % half;
      return at * 2 + parity;
    };
  }
  const random = makeRandom(seed);
  return (parity) => {
    const rank = Math.min(half - 1, Math.floor(half ** random()) - 1);
    return ((rank * step) % half) * 2 + parity;
  };
}

/** Near the golden section of the count, so that neighbours lie far apart. */
function coprimeStep(count: number): number {
  let step = Math.max(1, Math.floor(count * 0.618));
  const divisor = (a: number, b: number): number => (b === 0 ? a : divisor(b, a % b));
  while (divisor(step, count) !== 1) step += 1;
  return step;
}

/** The same numbers from 0 to 1 for the same seed (mulberry32). */
function makeRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let value = Math.imul(state ^ (state >>> 15), state | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}

function makeNoise(sizeBytes: number): Buffer {
  const random = makeRandom(1);
  const digits = Buffer.from("0123456789abcdef");
  const noise = Buffer.allocUnsafe(sizeBytes);
  for (let at = 0; at < sizeBytes; at += 1) noise[at] = digits[Math.floor(random() * 16)] ?? 0;
  return noise;
}
