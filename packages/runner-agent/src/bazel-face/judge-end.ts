import { type CallEnd, GRPC_STATUS } from "@glorious/grpc";

import { isWrite, type MethodKind } from "./methods.ts";

/**
 * What to make of the end of a call to the cache.
 *
 * - `pass`: the cache's own answer; the caller gets it.
 * - `repeat`: the cache has not looked at it; it may be asked again.
 * - `renew`: the credential is not taken; worth another try with a new one.
 * - `refused`: the cache does not give or take this. Never a reason to try again.
 * - `trouble`: the cache does not work as it should.
 */
export type EndVerdict = "pass" | "repeat" | "renew" | "refused" | "trouble";

const TROUBLE: ReadonlySet<number> = new Set([
  GRPC_STATUS.CANCELLED,
  GRPC_STATUS.UNKNOWN,
  GRPC_STATUS.DEADLINE_EXCEEDED,
  GRPC_STATUS.ABORTED,
  GRPC_STATUS.INTERNAL,
  GRPC_STATUS.UNAVAILABLE,
  GRPC_STATUS.DATA_LOSS,
]);

/** Judges how a call of ours to the cache ended. */
export function judgeEnd(
  kind: MethodKind,
  { status, isUnprocessed }: Pick<CallEnd, "status" | "isUnprocessed">,
): EndVerdict {
  if (isUnprocessed) return "repeat";
  if (status === GRPC_STATUS.UNAUTHENTICATED) return "renew";
  if (status === GRPC_STATUS.PERMISSION_DENIED) return "refused";
  // A full cache refuses what is new; Bazel would try each blob six times.
  if (status === GRPC_STATUS.RESOURCE_EXHAUSTED) return isWrite(kind) ? "refused" : "trouble";
  return TROUBLE.has(status) ? "trouble" : "pass";
}
