import { CacheError } from "@glorious/core";

const ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz";
const DIGITS = digitTable();

/**
 * Encodes bytes in nix32, Nix's base 32: 20 bytes become 32 characters, 32 bytes become 52.
 *
 * The alphabet has no `e`, `o`, `t` and `u`; bits are taken little-endian and the most significant
 * digit comes first, so the text is not that of any RFC 4648 base 32.
 *
 * @see `src/libutil/hash.cc` in NixOS/nix.
 */
export function encodeNix32(bytes: Uint8Array): string {
  let text = "";
  for (let index = nix32Length(bytes.length) - 1; index >= 0; index -= 1) {
    const bit = index * 5;
    const low = (bytes[bit >>> 3] ?? 0) >>> (bit & 7);
    const high = (bytes[(bit >>> 3) + 1] ?? 0) << (8 - (bit & 7));
    text += ALPHABET[(low | high) & 31];
  }
  return text;
}

/**
 * Decodes nix32 text; only text that {@link encodeNix32} could have written is accepted.
 *
 * @throws {CacheError} `INVALID` for a foreign character, an impossible length, or stray bits.
 */
export function decodeNix32(text: string): Buffer {
  const bytes = Buffer.alloc(Math.floor((text.length * 5) / 8));
  if (nix32Length(bytes.length) !== text.length) {
    throw invalid(text, `no value is ${text.length} characters long`);
  }
  for (let index = 0; index < text.length; index += 1) {
    const digit = DIGITS[text.charCodeAt(text.length - 1 - index)] ?? -1;
    if (digit < 0) throw invalid(text, "it has a character outside the nix32 alphabet");
    const bit = index * 5;
    const at = bit >>> 3;
    const high = digit >>> (8 - (bit & 7));
    bytes[at] = (bytes[at] ?? 0) | (digit << (bit & 7));
    if (at + 1 < bytes.length) bytes[at + 1] = high;
    else if (high !== 0) throw invalid(text, "its first digit is too large");
  }
  return bytes;
}

/** How many nix32 characters `byteLength` bytes take. */
export function nix32Length(byteLength: number): number {
  return Math.ceil((byteLength * 8) / 5);
}

function digitTable(): Int8Array {
  const table = new Int8Array(128).fill(-1);
  for (let digit = 0; digit < ALPHABET.length; digit += 1) {
    table[ALPHABET.charCodeAt(digit)] = digit;
  }
  return table;
}

function invalid(text: string, reason: string): CacheError {
  const shown = text.length > 80 ? `${text.slice(0, 80)}…` : text;
  return new CacheError("INVALID", `${JSON.stringify(shown)} is not nix32: ${reason}`);
}
