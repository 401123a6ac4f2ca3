import { CacheError } from "@glorious/core";

/**
 * Words that are no part of an instance name. The first seven are the contract's, which finds the
 * end of the name by them; the others are the first parts of our paths over HTTP.
 */
export const RESERVED_SEGMENTS: ReadonlySet<string> = new Set([
  "blobs",
  "uploads",
  "actions",
  "actionResults",
  "operations",
  "capabilities",
  "compressed-blobs",
  "ac",
  "cas",
  "kv",
]);

const MAX_NAME_CHARACTERS = 1024;
const MAX_SUB_SEGMENTS = 8;
const SEGMENT = /^[A-Za-z0-9._+-]{1,64}$/;

/** An instance name in its parts. */
export interface InstanceName {
  /** The view's full name; `undefined` when the caller named no instance at all. */
  readonly view: string | undefined;
  /** What stands below the view, without a slash in front; empty for the view itself. */
  readonly subInstance: string;
}

/**
 * Splits an instance name: the view, then up to eight segments of the client's own, of letters,
 * digits and `._+-`. Whether there is such a view is not looked at.
 *
 * @throws {CacheError} `INVALID` when a segment is empty, reserved, only dots, or has other
 * characters.
 */
export function parseInstanceName(text: string): InstanceName {
  if (text === "") return { view: undefined, subInstance: "" };
  if (text.length > MAX_NAME_CHARACTERS) throw invalid(text, "is too long");
  const segments = text.split("/");
  for (const segment of segments) checkSegment(segment, text);
  if (segments.length > MAX_SUB_SEGMENTS + 1) {
    throw invalid(text, `has more than ${MAX_SUB_SEGMENTS} segments below the view`);
  }
  const [view, ...rest] = segments;
  return { view, subInstance: rest.join("/") };
}

function checkSegment(segment: string, text: string): void {
  if (segment === "") throw invalid(text, "has an empty segment");
  if (RESERVED_SEGMENTS.has(segment))
    throw invalid(text, `has the reserved word "${segment}" in it`);
  if (!SEGMENT.test(segment) || /^\.+$/.test(segment)) {
    throw invalid(text, `has the segment ${JSON.stringify(segment.slice(0, 64))} in it`);
  }
}

function invalid(text: string, problem: string): CacheError {
  return new CacheError(
    "INVALID",
    `the instance name ${JSON.stringify(text.slice(0, 200))} ${problem}`,
    { hint: "An instance name is <view> or <view>/<name>…, of letters, digits and ._+-" },
  );
}
