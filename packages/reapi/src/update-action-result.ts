import { DigestFields } from "./digest-fields.ts";
import type { DigestList } from "./digest-list.ts";
import { requireSha256 } from "./request-fields.ts";
import { WireReader } from "./wire-reader.ts";

const TAG = {
  instanceName: 0x0a,
  actionDigest: 0x12,
  actionResult: 0x1a,
  resultsCachePolicy: 0x22,
  digestFunction: 0x28,
} as const;
const KNOWN = 0b11_1110;

/** An `UpdateActionResultRequest` without its digest. */
export interface UpdateActionResultFields {
  readonly instanceName: string;
  /** The bytes of the `ActionResult` as they came: a view of the request, not yet looked into. */
  readonly actionResult: Uint8Array;
}

/**
 * Reads an `UpdateActionResultRequest`; `digests` is cleared and gets the action's digest.
 *
 * @throws {CacheError} `INVALID` when it is malformed, has no result, or is for anything but
 * SHA-256.
 */
export function parseUpdateActionResultRequest(
  message: Uint8Array,
  digests: DigestList,
): UpdateActionResultFields {
  const reader = new WireReader(message, "UpdateActionResultRequest");
  const digest = new DigestFields();
  let instanceName = "";
  const parts: Buffer[] = [];
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === TAG.actionResult) parts.push(reader.view());
    else if (tag === TAG.actionDigest) digest.merge(reader);
    else if (tag === TAG.instanceName) instanceName = reader.text();
    else if (tag === TAG.digestFunction) requireSha256(reader);
    else if (tag === TAG.resultsCachePolicy) reader.skipValue(tag);
    else reader.skip(tag, KNOWN);
  }
  digests.clear();
  digest.pushTo(digests, reader, "action_digest");
  const [first] = parts;
  if (first === undefined) throw reader.invalidField("action_result", "it is missing");
  // The parts of a message that comes in parts, one after the other, are that message.
  return { instanceName, actionResult: parts.length === 1 ? first : Buffer.concat(parts) };
}
