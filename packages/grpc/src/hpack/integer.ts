/** Writes an integer with an `n`-bit prefix (RFC 7541, section 5.1) and returns where it ends. */
export function writeInteger(
  target: Uint8Array,
  start: number,
  pattern: number,
  prefixBits: number,
  value: number,
): number {
  const limit = (1 << prefixBits) - 1;
  if (value < limit) {
    target[start] = pattern | value;
    return start + 1;
  }
  target[start] = pattern | limit;
  let rest = value - limit;
  let position = start + 1;
  while (rest >= 128) {
    target[position++] = (rest & 127) | 128;
    rest >>>= 7;
  }
  target[position++] = rest;
  return position;
}

/**
 * Reads integers of RFC 7541, section 5.1, one after the other; `position` moves along.
 *
 * Values of 2^28 and more, and integers that end beyond the block, read as -1: nothing in a header block of
 * sane size needs them.
 */
export class IntegerReader {
  position = 0;

  read(bytes: Uint8Array, end: number, prefixBits: number): number {
    if (this.position >= end) return -1;
    const limit = (1 << prefixBits) - 1;
    let value = (bytes[this.position++] as number) & limit;
    if (value < limit) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      if (this.position >= end) return -1;
      const byte = bytes[this.position++] as number;
      value += (byte & 127) << shift;
      if (byte < 128) return value;
    }
    return -1;
  }
}
