import { CacheError } from "@glorious/core";

/** The longest name of a directory entry, in bytes; Nix has enforced it since 2.34. */
export const MAX_NAR_NAME_BYTES = 255;

/** The longest symlink target, in bytes; Nix has enforced it since 2.34. */
export const MAX_NAR_TARGET_BYTES = 4095;

/**
 * The most names on the way from the root to a node. Nix has refused more than 64 nodes above one
 * another, the root being the first, since 2.34.
 */
export const MAX_NAR_DEPTH = 63;

/** Encodes the strings of a NAR: a 64-bit little-endian length, the bytes, zeros up to a multiple of 8. */
export function encodeNarStrings(...strings: readonly (string | Uint8Array)[]): Buffer {
  return Buffer.concat(strings.map((text) => encodeNarString(Buffer.from(text))));
}

/** Zero bytes that follow `sizeBytes` bytes of a string. */
export function narPaddingBytes(sizeBytes: number): number {
  return -sizeBytes & 7;
}

/** Says why a name may not stand in a directory of a NAR, or `undefined` when it may. */
export function narNameProblem(name: Uint8Array): string | undefined {
  if (name.length === 0) return "an entry's name is empty";
  if (name.length > MAX_NAR_NAME_BYTES) return `a name is longer than ${MAX_NAR_NAME_BYTES} bytes`;
  if (name[0] === DOT && (name.length === 1 || (name.length === 2 && name[1] === DOT))) {
    return "an entry is named . or ..";
  }
  for (let index = 0; index < name.length; index += 1) {
    if (name[index] === 0 || name[index] === SLASH) return "a name holds a slash or a NUL byte";
  }
  return undefined;
}

/** Says why a symlink may not have this target, or `undefined` when it may. */
export function narTargetProblem(target: Uint8Array): string | undefined {
  if (target.length === 0) return "a symlink's target is empty";
  if (target.length > MAX_NAR_TARGET_BYTES) {
    return `a symlink's target is longer than ${MAX_NAR_TARGET_BYTES} bytes`;
  }
  return target.includes(0) ? "a symlink's target holds a NUL byte" : undefined;
}

/** Shows a path inside a NAR in a message. */
export function showNarPath(path: readonly Uint8Array[]): string {
  if (path.length === 0) return "the root";
  const text = path.map((name) => Buffer.from(name).toString()).join("/");
  return JSON.stringify(text.length > 300 ? `…${text.slice(-300)}` : text);
}

/** The error for a NAR that no correct writer makes. */
export function corruptNar(
  offset: number,
  reason: string,
  path: readonly Uint8Array[],
): CacheError {
  const where = `byte ${offset}, in ${showNarPath(path)}`;
  return new CacheError("CORRUPT", `The NAR is corrupt at ${where}: ${reason}`);
}

const DOT = 0x2e;
const SLASH = 0x2f;

function encodeNarString(bytes: Buffer): Buffer {
  const encoded = Buffer.alloc(8 + bytes.length + narPaddingBytes(bytes.length));
  encoded.writeUInt32LE(bytes.length);
  bytes.copy(encoded, 8);
  return encoded;
}
