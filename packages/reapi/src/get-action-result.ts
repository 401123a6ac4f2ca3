import { DigestFields } from "./digest-fields.ts";
import type { DigestList } from "./digest-list.ts";
import { requireSha256 } from "./request-fields.ts";
import { WireReader } from "./wire-reader.ts";

const TAG = {
  instanceName: 0x0a,
  actionDigest: 0x12,
  inlineStdout: 0x18,
  inlineStderr: 0x20,
  inlineOutputFiles: 0x2a,
  digestFunction: 0x30,
} as const;
const KNOWN = 0b111_1110;

/** What a caller would like to find in the answer, so that it need not read it separately. */
export interface InlineWishes {
  readonly inlineStdout: boolean;
  readonly inlineStderr: boolean;
  /** Paths of output files. */
  readonly inlineOutputFiles: readonly string[];
}

/** A `GetActionResultRequest` without its digest. */
export interface GetActionResultFields extends InlineWishes {
  readonly instanceName: string;
}

const NOTHING: readonly string[] = [];
/** Wishes past these are not heard: they are hints, and a message could hold millions. */
const MAX_WISHES = 1024;

/**
 * Reads a `GetActionResultRequest`; `digests` is cleared and gets the action's digest.
 *
 * @throws {CacheError} `INVALID` when it is malformed or asks for anything but SHA-256.
 */
export function parseGetActionResultRequest(
  message: Uint8Array,
  digests: DigestList,
): GetActionResultFields {
  const reader = new WireReader(message, "GetActionResultRequest");
  const digest = new DigestFields();
  let instanceName = "";
  let inlineStdout = false;
  let inlineStderr = false;
  let inlineOutputFiles: string[] | undefined;
  for (let tag = reader.tag(); tag !== 0; tag = reader.tag()) {
    if (tag === TAG.actionDigest) digest.merge(reader);
    else if (tag === TAG.instanceName) instanceName = reader.text();
    else if (tag === TAG.inlineStdout) inlineStdout = reader.bool();
    else if (tag === TAG.inlineStderr) inlineStderr = reader.bool();
    else if (tag === TAG.inlineOutputFiles) {
      inlineOutputFiles ??= [];
      if (inlineOutputFiles.length < MAX_WISHES) inlineOutputFiles.push(reader.text());
      else reader.skipValue(tag);
    } else if (tag === TAG.digestFunction) requireSha256(reader);
    else reader.skip(tag, KNOWN);
  }
  digests.clear();
  digest.pushTo(digests, reader, "action_digest");
  return {
    instanceName,
    inlineStdout,
    inlineStderr,
    inlineOutputFiles: inlineOutputFiles ?? NOTHING,
  };
}
