import { openSync, closeSync, writeSync } from "node:fs";

/** One thing the recorded process asked of the file system, in the order it happened. Paths are absolute. */
export type Operation =
  | {
      readonly kind: "open";
      readonly handle: string;
      readonly path: string;
      readonly creates: boolean;
      readonly truncates: boolean;
    }
  | { readonly kind: "close"; readonly handle: string }
  | {
      readonly kind: "write";
      readonly handle: string;
      readonly offset: number;
      readonly bytes: Buffer;
    }
  | { readonly kind: "truncate"; readonly handle: string; readonly sizeBytes: number }
  /** A flush covers what happened before its begin, and counts from its end. */
  | { readonly kind: "sync-begin"; readonly handle: string; readonly id: string }
  | { readonly kind: "sync-end"; readonly id: string }
  | { readonly kind: "rename"; readonly from: string; readonly to: string }
  | { readonly kind: "link"; readonly from: string; readonly to: string }
  | { readonly kind: "unlink"; readonly path: string }
  | { readonly kind: "rmdir"; readonly path: string }
  | { readonly kind: "mkdir"; readonly path: string }
  /** What the test itself noted at this point. */
  | { readonly kind: "mark"; readonly text: string };

const HEADER_BYTES = 36;
const MARK = 12;

/**
 * Reads the record that the preloaded recorder wrote. A last entry that was cut short by a kill is left out.
 *
 * @throws {Error} when the process did something that the record cannot express.
 */
export function readOperationLog(log: Buffer): Operation[] {
  const operations: Operation[] = [];
  for (let at = 0; at + HEADER_BYTES <= log.length;) {
    const length = log.readUInt32LE(at);
    if (length < HEADER_BYTES || at + length > log.length) break;
    operations.push(readOperation(log.subarray(at, at + length)));
    at += length;
  }
  return operations;
}

function readOperation(entry: Buffer): Operation {
  const flags = entry.readUInt8(5);
  const firstEnd = HEADER_BYTES + entry.readUInt16LE(6);
  const secondEnd = firstEnd + entry.readUInt16LE(8);
  const first = entry.toString("utf8", HEADER_BYTES, firstEnd);
  const second = entry.toString("utf8", firstEnd, secondEnd);
  const pid = entry.readUInt32LE(16);
  const handle = `${pid}:${entry.readInt32LE(12)}`;
  const offset = Number(entry.readBigInt64LE(20));
  switch (entry.readUInt8(4)) {
    case 1:
      return {
        kind: "open",
        handle,
        path: first,
        creates: (flags & 1) !== 0,
        truncates: (flags & 2) !== 0,
      };
    case 2:
      return { kind: "close", handle };
    case 3:
      return { kind: "write", handle, offset, bytes: entry.subarray(secondEnd) };
    case 4:
      return { kind: "truncate", handle, sizeBytes: offset };
    case 5:
      return { kind: "sync-begin", handle, id: `${pid}:${offset}` };
    case 6:
      return { kind: "sync-end", id: `${pid}:${offset}` };
    case 7:
      return { kind: "rename", from: first, to: second };
    case 8:
      return { kind: "unlink", path: first };
    case 9:
      return { kind: "rmdir", path: first };
    case 10:
      return { kind: "mkdir", path: first };
    case 11:
      return { kind: "link", from: first, to: second };
    case MARK:
      return { kind: "mark", text: entry.toString("utf8", secondEnd) };
    default:
      throw new Error(`The record cannot express what the process did: ${first} ${second}`);
  }
}

/** Notes a text at this point of the record, in order with what the process does meanwhile. */
export function appendMark(logFile: string, text: string): void {
  const body = Buffer.from(text);
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(HEADER_BYTES + body.length, 0);
  header.writeUInt8(MARK, 4);
  header.writeBigUInt64LE(BigInt(body.length), 28);
  // One write to a file opened for appending is one piece of it, whoever else appends.
  const file = openSync(logFile, "a", 0o600);
  try {
    writeSync(file, Buffer.concat([header, body]));
  } finally {
    closeSync(file);
  }
}
