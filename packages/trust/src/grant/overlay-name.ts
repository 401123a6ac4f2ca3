import { createHash } from "node:crypto";

import type { Principal } from "../identity/principal.ts";
import { formatViewName, parseViewName } from "../view-name.ts";

/** An overlay's full name, and whose it is. */
export interface OverlayIdentity {
  readonly name: string;
  /** 64 hexadecimal digits over all that the overlay belongs to. */
  readonly key: string;
}

/**
 * Names the overlay of a principal over `base`: `pr-<number>` for a pull request, where no other
 * repository shares the view; otherwise `ref-` and the first 8 digits of the SHA-256 of three lines: the
 * issuer, the repository's id, and `pr/<number>` or the full ref. Two forges may give one id.
 *
 * @returns `undefined` when the principal names neither a pull request nor a ref.
 */
export function overlayName(
  base: string,
  principal: Principal,
  options: { readonly isOnlyRepository: boolean },
): OverlayIdentity | undefined {
  const { issuer, pullRequest, ref, repository } = principal;
  const subject = pullRequest === undefined ? ref : `pr/${pullRequest}`;
  const owner = repository?.id ?? repository?.name;
  if (subject === undefined || owner === undefined) return undefined;
  const key = createHash("sha256").update(`${issuer}\n${owner}\n${subject}`).digest("hex");
  const overlay =
    pullRequest !== undefined && options.isOnlyRepository
      ? { kind: "pr" as const, number: pullRequest }
      : { kind: "ref" as const, hash: key.slice(0, 8) };
  return { name: formatViewName({ ...parseViewName(base), overlay }), key };
}
