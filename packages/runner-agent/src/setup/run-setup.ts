import { describeError, isCacheError } from "@glorious/core";

import { findEarlierSession } from "./earlier-session.ts";
import type { SetupContext, SetupRequest, SetupResult } from "./setup-request.ts";
import { Setup } from "./setup.ts";
import { startStopwatch } from "./stopwatch.ts";

/** What is left to be cleaned up with when the time is up: a fifth of it, and no more than that. */
const MAX_RESERVE_MS = 2000;

/**
 * Sets a job up: finds out what it may do, starts its agent, and points Nix and Bazel to it. What cannot be done is
 * said in the result; the job goes on without.
 *
 * Takes no longer than the request allows, and rejects for nothing but a mistake of ours.
 */
export async function runSetup(given: SetupRequest, context: SetupContext): Promise<SetupResult> {
  const stopwatch = startStopwatch();
  const cacheMode = given.cacheMode ?? context.env["ACTIONS_CACHE_MODE"];
  const request: SetupRequest = { ...given, cacheMode };
  const givenMs = request.timeoutSeconds * 1000;
  const limitMs = givenMs - Math.min(MAX_RESERVE_MS, givenMs / 5);
  const signal = AbortSignal.any([context.signal, AbortSignal.timeout(limitMs)]);
  using setup = new Setup(request, { ...context, signal }, stopwatch);
  if (cacheMode === "none") {
    return setup.news.nothing(
      "disabled",
      "The workflow forbids caches: ACTIONS_CACHE_MODE is none.",
    );
  }
  try {
    const earlier = await findEarlierSession(context.env);
    if (earlier.kind === "none") return await setup.run(earlier.leftPaths);
    return await setup.extend(earlier);
  } catch (error) {
    if (!isCacheError(error)) throw error;
    return setup.news.without("degraded", describeError(error));
  }
}
