import { type DigestKey, DigestList } from "@glorious/reapi";

const KEY_BYTES = 32;
const SIZE_BYTES = 8;

/** What can be asked of digests, in a list or packed. */
export interface Digests {
  readonly length: number;
  /** The hashes as words, eight for each. */
  readonly words: Int32Array;
  sizeBytes(index: number): number;
}

/** Digests as the index keeps them: all hashes, then all sizes. */
export function packDigests(list: DigestList): Uint8Array {
  const { length } = list;
  const packed = new Uint8Array(length * (KEY_BYTES + SIZE_BYTES));
  packed.set(list.bytes.subarray(0, length * KEY_BYTES));
  const sizes = new Float64Array(packed.buffer, length * KEY_BYTES, length);
  for (let index = 0; index < length; index += 1) sizes[index] = list.sizeBytes(index);
  return packed;
}

/** Looks into packed digests where they are; the memory must be theirs alone. */
export function viewDigests(packed: Uint8Array): Digests {
  const length = packed.length / (KEY_BYTES + SIZE_BYTES);
  const words = new Int32Array(packed.buffer, packed.byteOffset, (length * KEY_BYTES) / 4);
  const sizes = new Float64Array(packed.buffer, packed.byteOffset + length * KEY_BYTES, length);
  return { length, words, sizeBytes: (index) => sizes[index] as number };
}

/** Packed digests as a list. */
export function unpackDigests(packed: Uint8Array): DigestList {
  const digests = viewDigests(packed);
  const list = new DigestList();
  for (let index = 0; index < digests.length; index += 1) {
    const key = packed.subarray(index * KEY_BYTES, (index + 1) * KEY_BYTES);
    list.push(key, digests.sizeBytes(index));
  }
  return list;
}

/** A hash as words. */
export function wordsOf(key: DigestKey): Int32Array {
  const aligned = key.byteOffset % 4 === 0 ? key : new Uint8Array(key);
  return new Int32Array(aligned.buffer, aligned.byteOffset, KEY_BYTES / 4);
}

/** The hash that begins at a word. */
export function keyAt(words: Int32Array, at: number): DigestKey {
  return new Uint8Array(words.buffer, words.byteOffset + 4 * at, KEY_BYTES);
}

/** Of places in a list, those whose digest is at no place before. */
export function uniquePlaces(digests: Digests, places: readonly number[]): number[] {
  const { words } = digests;
  const byFirstWord = new Map<number, number[]>();
  return places.filter((place) => {
    const first = words[8 * place] as number;
    const alike = byFirstWord.get(first);
    if (alike === undefined) {
      byFirstWord.set(first, [place]);
      return true;
    }
    if (alike.some((other) => areEqual(digests, place, other))) return false;
    alike.push(place);
    return true;
  });
}

function areEqual(digests: Digests, one: number, other: number): boolean {
  const { words } = digests;
  for (let word = 0; word < 8; word += 1) {
    if (words[8 * one + word] !== words[8 * other + word]) return false;
  }
  return digests.sizeBytes(one) === digests.sizeBytes(other);
}
