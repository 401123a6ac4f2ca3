import type { LoggedRecord } from "./record-log.ts";

/** In the order in which {@link RESULT_HEX} writes them: the hash, the scope, the last use, two lengths, the bytes. */
const SCOPE = 32;
const ACCESSED = 36;
const EXTRA_LENGTH = 40;
const MAIN_LENGTH = 44;
const HEADER_BYTES = 48;
const NONE = 2 ** 32 - 1;

/** SQL for an ActionResult in hexadecimal, of the columns hash, scope_id, accessed, refers_to and result. */
export const RESULT_HEX: string = `hex(hash)
  || printf('%08x%08x%08x%08x', scope_id, accessed, coalesce(length(refers_to), ${NONE}), length(result))
  || hex(coalesce(refers_to, '')) || hex(result)`;

/** An ActionResult of a page, as a view of its memory. */
export interface PagedResult extends LoggedRecord {
  readonly hash: Buffer;
  readonly scopeId: number;
  readonly accessed: number;
}

/** Goes through ActionResults that came as one piece of text: objects for all of a million rows would be garbage. */
export function* readResultPage(hex: string): Generator<PagedResult> {
  // Of memory of its own: hashes are looked at as words, and small buffers begin anywhere in one that many share.
  const bytes = Buffer.alloc(hex.length / 2);
  bytes.write(hex, "hex");
  let at = 0;
  while (at < bytes.length) {
    const extraLength = bytes.readUInt32BE(at + EXTRA_LENGTH);
    const start = at + HEADER_BYTES;
    const mainAt = extraLength === NONE ? start : start + extraLength;
    const end = mainAt + bytes.readUInt32BE(at + MAIN_LENGTH);
    yield {
      hash: bytes.subarray(at, at + SCOPE),
      scopeId: bytes.readUInt32BE(at + SCOPE),
      accessed: bytes.readUInt32BE(at + ACCESSED),
      extra: extraLength === NONE ? null : bytes.subarray(start, mainAt),
      main: bytes.subarray(mainAt, end),
    };
    at = end;
  }
}
