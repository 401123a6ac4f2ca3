import { setTimeout as sleep } from "node:timers/promises";

import type { AdminClient, ScrubReport, ScrubRequest } from "@glorious/cache-client";
import { CacheError, formatSizeBytes, isCacheError } from "@glorious/core";

import { type CliContext, note } from "./cli-context.ts";

const WAIT_SECONDS = 2;
const PAUSE_MS = 1000;
/** How long a server may take to come back. */
const MAX_ABSENCE_MS = 60_000;

/**
 * Lets the server scrub, says now and then how far it is, and returns how it ended.
 *
 * A server that is started anew meanwhile is told to go on.
 */
export async function runScrub(
  admin: AdminClient,
  context: CliContext,
  request: ScrubRequest,
): Promise<ScrubReport> {
  const { bytesPerSecond } = request;
  let report = await admin.scrub(request);
  let absentSinceMs: number | undefined;
  for (;;) {
    if (report.state === "done") return report;
    if (report.state === "failed") {
      throw new CacheError("UNAVAILABLE", "The server could not end the scrub", {
        hint: "Its log says why.",
      });
    }
    try {
      const { checkedBefore } = report;
      report = await admin.scrub({ checkedBefore, bytesPerSecond, waitSeconds: WAIT_SECONDS });
      absentSinceMs = undefined;
    } catch (error) {
      absentSinceMs ??= context.nowMs();
      const isLong = context.nowMs() - absentSinceMs > MAX_ABSENCE_MS;
      if (isLong || context.signal.aborted || !isCacheError(error, "UNAVAILABLE")) throw error;
      note(context, "The server does not answer; trying again.");
      await pause(context.signal);
      continue;
    }
    if (report.state === "running") note(context, describeProgress(report));
    if (report.state === "stopped") await pause(context.signal);
  }
}

function describeProgress({ fraction, bazel, ...nix }: ScrubReport): string {
  const percent = Math.floor(fraction * 100);
  const scanned = nix.scanned + (bazel?.scanned ?? 0);
  const bytes = nix.bytes + (bazel?.bytes ?? 0);
  const bad = nix.badTotal + (bazel?.badTotal ?? 0);
  return `${percent} %: ${scanned} objects read, ${formatSizeBytes(bytes)}; ${bad} bad`;
}

async function pause(signal: AbortSignal): Promise<void> {
  try {
    await sleep(PAUSE_MS, undefined, { signal });
  } catch (cause) {
    if (isCacheError(signal.reason)) throw signal.reason;
    throw new CacheError("CANCELLED", "Interrupted", { cause });
  }
}
