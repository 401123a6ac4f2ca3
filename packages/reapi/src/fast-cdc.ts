import { CacheError } from "@glorious/core";

import { type GearTable, makeGearTable } from "./gear-table.ts";

/** What two sides must agree on to cut at the same places. */
export interface FastCdcParams {
  /** A power of two, from 1 KiB to 1 MiB. Chunks have from a quarter of it to four times as much. */
  readonly averageBytes: number;
  /** Changes every cut; 32 bits, 0 for the published table. */
  readonly seed: number;
}

/** What we advertise: the contract's own defaults. */
export const FAST_CDC_PARAMS: FastCdcParams = Object.freeze({ averageBytes: 524_288, seed: 0 });

/** Cuts a stream into chunks by its content. */
export interface FastCdcChunker {
  /** Takes the next bytes; returns the lengths of the chunks that ended, in order. */
  write(bytes: Uint8Array): number[];
  /** The length of the last chunk, `undefined` when nothing is left. The chunker starts afresh. */
  end(): number | undefined;
}

const MIN_AVERAGE_BYTES = 1024;
const MAX_AVERAGE_BYTES = 1_048_576;
const NORMALIZATION_LEVEL = 2;
/** From 2^5 on: which bits of the hash are zero at a cut, so many that cuts are 2^n bytes apart. */
const MASKS: readonly bigint[] = [
  0x0000_0000_0180_4110n,
  0x0000_0000_0180_3110n,
  0x0000_0000_1803_5100n,
  0x0000_0018_0003_5300n,
  0x0000_0190_0035_3000n,
  0x0000_5900_0353_0000n,
  0x0000_d900_0353_0000n,
  0x0000_d901_0353_0000n,
  0x0000_d903_0353_0000n,
  0x0000_d903_1353_0000n,
  0x0000_d90f_0353_0000n,
  0x0000_d903_0353_7000n,
  0x0000_d907_0353_7000n,
  0x0000_d907_0753_7000n,
  0x0000_d917_0753_7000n,
  0x0000_d917_4753_7000n,
  0x0000_d917_6753_7000n,
  0x0000_d937_6753_7000n,
];
const FIRST_MASK_BITS = 5;
/** No mask looks at a higher bit, and what a byte adds has left these bits after as many others. */
const HASH_BITS = 48;

/**
 * Starts to cut a stream as FastCDC of 2020 does with normalisation of level 2, which is
 * `FAST_CDC_2020` of the Remote Execution API. The cuts do not depend on how the stream is cut into
 * pieces for {@link FastCdcChunker.write}.
 *
 * @throws {CacheError} `INVALID` when the average is no power of two in its range.
 * @see https://ieeexplore.ieee.org/document/9055082
 */
export function createFastCdcChunker(params: FastCdcParams = FAST_CDC_PARAMS): FastCdcChunker {
  const bits = Math.log2(params.averageBytes);
  const { averageBytes } = params;
  if (
    !Number.isInteger(bits) ||
    averageBytes < MIN_AVERAGE_BYTES ||
    averageBytes > MAX_AVERAGE_BYTES
  ) {
    throw new CacheError(
      "INVALID",
      `chunks of ${averageBytes} bytes on average: it must be a power of two from ${MIN_AVERAGE_BYTES} to ${MAX_AVERAGE_BYTES}`,
    );
  }
  return new Chunker(
    params,
    maskOf(bits + NORMALIZATION_LEVEL),
    maskOf(bits - NORMALIZATION_LEVEL),
  );
}

/** A mask of 48 bits in two halves. */
interface Mask {
  readonly low: number;
  readonly high: number;
}

class Chunker implements FastCdcChunker {
  readonly #gear: GearTable;
  readonly #strict: Mask;
  readonly #relaxed: Mask;
  readonly #minBytes: number;
  readonly #averageBytes: number;
  readonly #maxBytes: number;
  /** Bytes of the chunk so far. */
  #length = 0;
  /** Low half of the hash. The high half is worked out only where the low one fits. */
  #low = 0;
  /** The last bytes of the stream, for a hash that reaches back before the piece at hand. */
  readonly #history = new Uint8Array(HASH_BITS);
  /** A cut was found before the last byte, which counts only when another byte follows. */
  #isUndecided = false;

  constructor(params: FastCdcParams, strict: Mask, relaxed: Mask) {
    this.#gear = makeGearTable(params.seed);
    this.#strict = strict;
    this.#relaxed = relaxed;
    this.#averageBytes = params.averageBytes;
    this.#minBytes = params.averageBytes / 4;
    this.#maxBytes = params.averageBytes * 4;
  }

  write(bytes: Uint8Array): number[] {
    const lengths: number[] = [];
    if (bytes.length === 0) return lengths;
    if (this.#isUndecided) {
      lengths.push(this.#length - 1);
      this.#restart();
      this.#length = 1;
    }
    for (let at = 0; at < bytes.length;) at = this.#scan(bytes, at, lengths);
    this.#remember(bytes);
    return lengths;
  }

  end(): number | undefined {
    const length = this.#length;
    this.#restart();
    return length === 0 ? undefined : length;
  }

  /** Goes on to a cut or to where another rule begins; returns the place of the next byte. */
  #scan(bytes: Uint8Array, from: number, lengths: number[]): number {
    const length = this.#length;
    if (length === this.#maxBytes) {
      lengths.push(length);
      this.#restart();
      return from;
    }
    const left = bytes.length - from;
    if (length < this.#minBytes) {
      const step = Math.min(this.#minBytes - length, left);
      this.#length += step;
      return from + step;
    }
    const isStrict = length < this.#averageBytes;
    const border = isStrict ? this.#averageBytes : this.#maxBytes;
    const to = from + Math.min(border - length, left);
    const mask = isStrict ? this.#strict : this.#relaxed;
    const maskLow = mask.low;
    const low = this.#gear.low;
    let hash = this.#low;
    for (let at = from; at < to; at++) {
      hash = ((hash << 1) + low[bytes[at]!]!) | 0;
      if ((hash & maskLow) !== 0) continue;
      const cutLength = length + at - from;
      const hashedBytes = cutLength + 1 - this.#minBytes;
      if ((this.#highHash(bytes, at, hashedBytes) & mask.high) !== 0) continue;
      return this.#cut(cutLength, at, bytes.length, lengths);
    }
    this.#low = hash;
    this.#length = length + to - from;
    return to;
  }

  /**
   * Ends a chunk before the byte at `at`, which begins the next one. The algorithm looks at bytes in
   * pairs: the first of a pair is no place to cut when the stream ends with it.
   */
  #cut(cutLength: number, at: number, end: number, lengths: number[]): number {
    if (cutLength % 2 === 0 && at + 1 === end) {
      this.#length = cutLength + 1;
      this.#isUndecided = true;
      return end;
    }
    lengths.push(cutLength);
    this.#restart();
    return at;
  }

  /** High half of the hash of the bytes that end with the one at `at`. */
  #highHash(bytes: Uint8Array, at: number, hashedBytes: number): number {
    const gear = this.#gear;
    let low = 0;
    let high = 0;
    for (let back = Math.min(hashedBytes, HASH_BITS) - 1; back >= 0; back--) {
      const place = at - back;
      const byte = place >= 0 ? bytes[place]! : this.#history[HASH_BITS + place]!;
      const sum = ((low << 1) >>> 0) + (gear.low[byte]! >>> 0);
      high = ((high << 1) | (low >>> 31)) + gear.high[byte]! + (sum > 0xffff_ffff ? 1 : 0);
      low = sum | 0;
    }
    return high;
  }

  #remember(bytes: Uint8Array): void {
    if (bytes.length >= HASH_BITS) {
      this.#history.set(bytes.subarray(bytes.length - HASH_BITS));
      return;
    }
    this.#history.copyWithin(0, bytes.length);
    this.#history.set(bytes, HASH_BITS - bytes.length);
  }

  #restart(): void {
    this.#length = 0;
    this.#low = 0;
    this.#isUndecided = false;
  }
}

function maskOf(bits: number): Mask {
  const mask = MASKS[bits - FIRST_MASK_BITS];
  if (mask === undefined) throw new Error(`no mask for cuts 2^${bits} bytes apart`);
  return { low: Number(BigInt.asIntN(32, mask)), high: Number(mask >> 32n) };
}
