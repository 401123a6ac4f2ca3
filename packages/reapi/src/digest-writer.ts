import type { DigestList } from "./digest-list.ts";
import { HASH_CHARACTERS, KEY_BYTES, encodeHash } from "./digest.ts";
import { type WireWriter, varintSize } from "./wire-writer.ts";

const HASH = 0x0a;
const SIZE_BYTES = 0x10;

/** Bytes of a `Digest` without the tag and length of the field that holds it. */
export function digestSize(list: DigestList, index: number): number {
  const sizeBytes = list.sizeBytes(index);
  return 2 + HASH_CHARACTERS + (sizeBytes === 0 ? 0 : 1 + varintSize(sizeBytes));
}

/** Writes a `Digest` as a field with a one-byte tag. */
export function writeDigest(
  writer: WireWriter,
  tag: number,
  list: DigestList,
  index: number,
): void {
  const sizeBytes = list.sizeBytes(index);
  writer.tag(tag);
  writer.varint(digestSize(list, index));
  writer.tag(HASH);
  writer.varint(HASH_CHARACTERS);
  encodeHash(list.bytes, index * KEY_BYTES, writer.bytes, writer.offset);
  writer.offset += HASH_CHARACTERS;
  if (sizeBytes === 0) return;
  writer.tag(SIZE_BYTES);
  writer.varint(sizeBytes);
}
