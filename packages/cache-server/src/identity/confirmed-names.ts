import { formatDurationMs } from "@glorious/core";
import type { ConfirmedName } from "@glorious/trust";

import type { CacheIndex } from "../index/cache-index.ts";

/** Names that an operator confirmed, for tokens without ids. */
export interface ConfirmedNames {
  /**
   * Notes a use of the name. When it was neither confirmed nor seen for too long, says so and what the operator has to
   * do: meanwhile the name may have been given up and registered by somebody else.
   */
  check(name: ConfirmedName): Promise<string | undefined>;
}

/** How exactly the last use is known. */
const NOTE_RESOLUTION_MS = 3_600_000;

export function createConfirmedNames(
  index: Pick<CacheIndex, "noteName" | "nameSeenAtMs">,
  now: () => number,
): ConfirmedNames {
  return {
    async check({ key, place, confirmedAtMs, reconfirmAfterSeconds }) {
      const nowMs = now();
      const seenAtMs = await index.nameSeenAtMs(key);
      const lastMs = Math.max(confirmedAtMs, seenAtMs ?? 0);
      if (nowMs - lastMs > reconfirmAfterSeconds * 1000) {
        const gap = formatDurationMs(reconfirmAfterSeconds * 1000);
        const seen = seenAtMs === undefined ? "never" : `last on ${toDay(seenAtMs)}`;
        return (
          `The name was confirmed on ${toDay(confirmedAtMs)} and seen ${seen}, more than ${gap} ago: somebody else may ` +
          `have registered it since. Make sure whose it is, and set ${place} to ${toDay(nowMs)}.`
        );
      }
      if (seenAtMs === undefined || nowMs - seenAtMs >= NOTE_RESOLUTION_MS) {
        await index.noteName(key, nowMs);
      }
      return undefined;
    },
  };
}

function toDay(timeMs: number): string {
  return new Date(timeMs).toISOString().slice(0, 10);
}
