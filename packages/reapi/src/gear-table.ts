import { createHash } from "node:crypto";

/** A table of 64-bit numbers in two halves. */
export interface GearTable {
  readonly low: Int32Array;
  readonly high: Int32Array;
}

const BLOCK_BYTES = 64;

/**
 * The numbers that FastCDC gives to the 256 bytes: the first half of the MD5 of 64 such bytes, as
 * in the authors' own program, each xored with `seed`.
 */
export function makeGearTable(seed: number): GearTable {
  const low = new Int32Array(256);
  const high = new Int32Array(256);
  for (let byte = 0; byte < 256; byte++) {
    const hash = createHash("md5").update(Buffer.alloc(BLOCK_BYTES, byte)).digest();
    high[byte] = hash.readInt32BE(0);
    low[byte] = hash.readInt32BE(4) ^ seed;
  }
  return { low, high };
}
