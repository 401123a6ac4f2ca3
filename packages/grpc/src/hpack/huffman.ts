import { END_OF_STRING, HUFFMAN_CODE } from "./huffman-code.ts";

const FAILED = 0x1_0000;
const EMITS = 0x2_0000;
const MAY_END = 0x4_0000;

/**
 * One entry per inner node of the code's tree and half byte that follows: bits 0 to 7 are the next node,
 * 8 to 15 the symbol that was completed (no code is shorter than five bits, so at most one is).
 */
const TRANSITIONS = buildTransitions();

/** The text was not encoded as RFC 7541, section 5.2 demands. */
export const BAD_HUFFMAN = -1;

/**
 * Decodes a string literal into `target`, which must hold `(end - start) * 8 / 5` bytes.
 *
 * @returns the decoded length, or {@link BAD_HUFFMAN} for a code that does not exist, the end-of-string
 * symbol, or padding that is longer than seven bits or not all ones.
 */
export function decodeHuffman(
  bytes: Uint8Array,
  start: number,
  end: number,
  target: Uint8Array,
): number {
  let length = 0;
  let entry = MAY_END;
  for (let position = start; position < end; position += 1) {
    const byte = bytes[position] as number;
    entry = TRANSITIONS[((entry & 0xff) << 4) | (byte >> 4)] as number;
    if ((entry & EMITS) !== 0) target[length++] = entry >> 8;
    if ((entry & FAILED) !== 0) return BAD_HUFFMAN;
    entry = TRANSITIONS[((entry & 0xff) << 4) | (byte & 15)] as number;
    if ((entry & EMITS) !== 0) target[length++] = entry >> 8;
    if ((entry & FAILED) !== 0) return BAD_HUFFMAN;
  }
  return (entry & MAY_END) === 0 ? BAD_HUFFMAN : length;
}

/** How many bytes {@link encodeHuffman} writes for `text`, whose characters are bytes. */
export function huffmanLength(text: string): number {
  let bits = 0;
  for (let index = 0; index < text.length; index += 1) {
    bits += HUFFMAN_CODE.lengths[text.charCodeAt(index)] as number;
  }
  return Math.ceil(bits / 8);
}

/** Writes the Huffman code of `text`, whose characters are bytes, and returns where it ends. */
export function encodeHuffman(text: string, target: Uint8Array, start: number): number {
  let position = start;
  // A code has up to 30 bits and up to 7 wait for it: more than the bitwise operators hold.
  let bits = 0;
  let count = 0;
  for (let index = 0; index < text.length; index += 1) {
    const symbol = text.charCodeAt(index);
    const length = HUFFMAN_CODE.lengths[symbol] as number;
    bits = bits * 2 ** length + (HUFFMAN_CODE.codes[symbol] as number);
    count += length;
    while (count >= 8) {
      count -= 8;
      const byte = Math.floor(bits / 2 ** count);
      target[position++] = byte;
      bits -= byte * 2 ** count;
    }
  }
  if (count > 0) target[position++] = (bits << (8 - count)) | (0xff >> count);
  return position;
}

function buildTransitions(): Uint32Array {
  // children[2 * node + bit] is an inner node, or ~symbol for a leaf.
  const children: number[] = [0, 0];
  for (const [symbol, code] of HUFFMAN_CODE.codes.entries()) {
    const length = HUFFMAN_CODE.lengths[symbol] as number;
    let node = 0;
    for (let bit = length - 1; bit >= 0; bit -= 1) {
      const slot = 2 * node + ((code >>> bit) & 1);
      if (bit === 0) {
        children[slot] = ~symbol;
      } else {
        if (children[slot] === 0) {
          children[slot] = children.length / 2;
          children.push(0, 0);
        }
        node = children[slot] as number;
      }
    }
  }
  const mayEnd = new Set<number>();
  for (let node = 0, depth = 0; depth <= 7; depth += 1) {
    mayEnd.add(node);
    node = children[2 * node + 1] as number;
  }
  const transitions = new Uint32Array((children.length / 2) * 16);
  for (let start = 0; start < children.length / 2; start += 1) {
    for (let half = 0; half < 16; half += 1) {
      let node = start;
      let entry = 0;
      for (let bit = 3; bit >= 0; bit -= 1) {
        const child = children[2 * node + ((half >> bit) & 1)] as number;
        if (child >= 0) {
          node = child;
        } else if (~child === END_OF_STRING) {
          entry |= FAILED;
          break;
        } else {
          entry |= EMITS | (~child << 8);
          node = 0;
        }
      }
      transitions[start * 16 + half] = entry | node | (mayEnd.has(node) ? MAY_END : 0);
    }
  }
  return transitions;
}
