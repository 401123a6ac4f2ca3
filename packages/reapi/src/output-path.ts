import type { WireReader } from "./wire-reader.ts";

/** Longest path or link target that is taken, in bytes: what Linux takes. */
const MAX_PATH_BYTES = 4096;

const NUL = 0;
const SLASH = 0x2f;
const BACKSLASH = 0x5c;
const DOT = 0x2e;
const COLON = 0x3a;

/**
 * Steps over the path of an output: relative, with "/" between its parts and none of them empty or
 * ".", and with ".." only in front, where a working directory below the root makes it necessary.
 */
export function checkPath(
  reader: WireReader,
  field: string,
  options: { mayBeEmpty: boolean },
): void {
  const size = reader.length();
  const from = reader.offset;
  const to = from + size;
  reader.offset = to;
  const problem =
    size === 0 && options.mayBeEmpty ? undefined : pathProblem(reader.bytes, from, to);
  if (problem !== undefined) throw refusal(reader, field, from, to, problem);
  checkText(reader, field, from, to);
}

/** Steps over the name of an entry of a directory. */
export function checkName(reader: WireReader, field: string): void {
  const size = reader.length();
  const from = reader.offset;
  const to = from + size;
  reader.offset = to;
  const { bytes } = reader;
  const isDots = bytes[from] === DOT && (size === 1 || (size === 2 && bytes[from + 1] === DOT));
  if (size === 0) throw reader.invalidField(field, "the name is missing");
  if (isDots) throw refusal(reader, field, from, to, "is no name");
  for (let at = from; at < to; at++) {
    if (bytes[at] === SLASH) throw refusal(reader, field, from, to, 'has a "/" in it');
  }
  checkText(reader, field, from, to);
}

/** Steps over what a symbolic link points to, which may be anything but nothing. */
export function checkTarget(reader: WireReader, field: string): void {
  const size = reader.length();
  const from = reader.offset;
  reader.offset = from + size;
  if (size === 0) throw reader.invalidField(field, "the target is missing");
  checkText(reader, field, from, from + size);
}

function pathProblem(bytes: Uint8Array, from: number, to: number): string | undefined {
  if (from === to) return "is empty";
  if (bytes[from] === SLASH || bytes[from] === BACKSLASH || hasDrive(bytes, from, to)) {
    return "is absolute";
  }
  let start = from;
  let isClimbing = true;
  for (let at = from; at <= to; at++) {
    if (at < to && bytes[at] !== SLASH) continue;
    const size = at - start;
    if (size === 0) return 'has an empty part, or ends in "/"';
    const dots =
      bytes[start] === DOT ? (size === 1 ? 1 : bytes[start + 1] === DOT && size === 2 ? 2 : 0) : 0;
    if (dots === 1) return 'has a part "."';
    if (dots === 2 && !isClimbing) return 'has a part ".." after another';
    isClimbing &&= dots === 2;
    start = at + 1;
  }
  return isClimbing ? "names no file" : undefined;
}

/** A drive of Windows, whose paths are absolute too. */
function hasDrive(bytes: Uint8Array, from: number, to: number): boolean {
  if (to - from < 3 || bytes[from + 1] !== COLON) return false;
  const letter = bytes[from]! | 0x20;
  const separator = bytes[from + 2];
  return letter >= 0x61 && letter <= 0x7a && (separator === SLASH || separator === BACKSLASH);
}

function checkText(reader: WireReader, field: string, from: number, to: number): void {
  if (to - from > MAX_PATH_BYTES) {
    throw refusal(reader, field, from, to, `has ${to - from} bytes, more than ${MAX_PATH_BYTES}`);
  }
  let all = 0;
  for (let at = from; at < to; at++) {
    const byte = reader.bytes[at]!;
    all |= byte;
    if (byte === NUL) throw refusal(reader, field, from, to, "has a zero byte in it");
  }
  if (all >= 0x80) reader.requireUtf8(from, to);
}

function refusal(reader: WireReader, field: string, from: number, to: number, problem: string) {
  const shown = reader.bytes.toString("utf8", from, Math.min(to, from + 100));
  return reader.invalidField(field, `${JSON.stringify(shown)} ${problem}`);
}
