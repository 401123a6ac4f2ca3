import { setTimeout as sleep } from "node:timers/promises";

import type { AdminClient, SigningKeys } from "@glorious/cache-client";
import { CacheError, isCacheError } from "@glorious/core";

import { type CliContext, note } from "./cli-context.ts";

const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 2000;

/** Waits until the view's paths are signed with the keys it has, and says now and then how many are not. */
export async function waitForSignatures(
  admin: AdminClient,
  view: string,
  context: CliContext,
): Promise<SigningKeys> {
  let pauseMs = FIRST_PAUSE_MS;
  for (;;) {
    const keys = await admin.listKeys(view);
    if (keys.outdatedPaths === 0) return keys;
    if (pauseMs >= MAX_PAUSE_MS)
      note(context, `${keys.outdatedPaths} paths are still to be signed.`);
    await pause(pauseMs, context.signal);
    pauseMs = Math.min(2 * pauseMs, MAX_PAUSE_MS);
  }
}

async function pause(durationMs: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(durationMs, undefined, { signal });
  } catch (cause) {
    if (isCacheError(signal.reason)) throw signal.reason;
    throw new CacheError("CANCELLED", "Interrupted while the view is being signed", {
      hint: "The server goes on by itself; `flywheel key list` tells how far it is.",
      cause,
    });
  }
}
