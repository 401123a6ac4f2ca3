import { ClaimError } from "./claims-reader.ts";
import type { Principal } from "./principal.ts";

/** What a full ref says by itself. */
export type RefFacts = Pick<Principal, "ref" | "refType" | "pullRequest">;

// What git itself forbids in a ref: `git check-ref-format`.
// oxlint-disable-next-line no-control-regex -- git forbids them
const FORBIDDEN = /[\u0000-\u0020\u007f~^:?*[\\]|\.\.|@\{|\/\/|\/\.|\/$|\.$|\.lock(?:\/|$)/;
const PULL = /^refs\/(?:pull|merge-requests)\/([1-9][0-9]{0,8})\/(?:merge|head|train)$/;

/**
 * Reads a full ref such as `refs/heads/main`. Names are compared as git compares them, byte for byte:
 * nothing is folded, so a look-alike in another alphabet is another branch.
 *
 * @throws {ClaimError} when git itself would refuse the ref.
 */
export function readRef(ref: string | undefined): RefFacts {
  if (ref === undefined) return { ref, refType: undefined, pullRequest: undefined };
  if (!ref.startsWith("refs/") || FORBIDDEN.test(ref)) {
    throw new ClaimError("The token's ref is none that git accepts");
  }
  const [, number] = PULL.exec(ref) ?? [];
  if (number !== undefined) return { ref, refType: "pull", pullRequest: Number(number) };
  if (ref.startsWith("refs/heads/")) return { ref, refType: "branch", pullRequest: undefined };
  if (ref.startsWith("refs/tags/")) return { ref, refType: "tag", pullRequest: undefined };
  return { ref, refType: undefined, pullRequest: undefined };
}
