import { END_OF_STRING, HUFFMAN_CODE } from "./huffman-code.ts";

/** Bits of an entry: the next node, two symbols, how many of them count, and whether this is a failure or a good end. */
const SYMBOL_1 = 8;
const SYMBOL_2 = 16;
const COUNT = 24;
const FAILED = 1 << 26;
const MAY_END = 1 << 27;

/**
 * One entry per inner node of the code's tree and byte that follows. No code is shorter than five bits, and up to
 * four may wait, so a byte completes at most two symbols. Made when the first text comes: it takes 15 ms, which a process
 * that reads none should not wait for.
 */
let kept: Int32Array | undefined;

/** The text was not encoded as RFC 7541, section 5.2 demands. */
export const BAD_HUFFMAN = -1;

/** How much room {@link decodeHuffman} needs for so many bytes. */
export function huffmanRoom(length: number): number {
  return length * 2 + 2;
}

/**
 * Decodes a string literal into `target`, which must have {@link huffmanRoom}.
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
  const table = (kept ??= buildTransitions());
  let length = 0;
  let entry = MAY_END;
  let seen = 0;
  for (let position = start; position < end; position += 1) {
    entry = table[((entry & 0xff) << 8) | (bytes[position] as number)] as number;
    seen |= entry;
    // Written whether they count or not: that is faster than to ask.
    target[length] = entry >> SYMBOL_1;
    target[length + 1] = entry >> SYMBOL_2;
    length += (entry >> COUNT) & 3;
  }
  return (seen & FAILED) !== 0 || (entry & MAY_END) === 0 ? BAD_HUFFMAN : length;
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

function buildTransitions(): Int32Array {
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
  const transitions = new Int32Array((children.length / 2) * 256);
  for (let start = 0; start < children.length / 2; start += 1) {
    for (let byte = 0; byte < 256; byte += 1) {
      let node = start;
      let entry = 0;
      let count = 0;
      for (let bit = 7; bit >= 0; bit -= 1) {
        const child = children[2 * node + ((byte >> bit) & 1)] as number;
        if (child >= 0) {
          node = child;
        } else if (~child === END_OF_STRING) {
          entry |= FAILED;
          break;
        } else {
          entry |= ~child << (count === 0 ? SYMBOL_1 : SYMBOL_2);
          count += 1;
          node = 0;
        }
      }
      entry |= (count << COUNT) | node | (mayEnd.has(node) ? MAY_END : 0);
      transitions[start * 256 + byte] = entry;
    }
  }
  return transitions;
}
