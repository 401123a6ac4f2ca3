import { CacheError, isCacheError } from "@glorious/core";

/** What became of a batch. Every path is in one of the four. */
export interface BatchOutcome {
  readonly pushed: string[];
  /** Deleted before they could be pushed. */
  readonly gone: string[];
  readonly refused: Array<{ readonly path: string; readonly error: CacheError }>;
  /** To be tried again, because of {@link BatchOutcome.error}. */
  readonly failed: string[];
  error: CacheError | undefined;
}

/**
 * Pushes paths together, and when one of them stands in the way of the others, in ever smaller groups.
 *
 * @param push - Makes the paths with all they refer to available, or throws.
 */
export async function pushBatch(
  paths: readonly string[],
  push: (paths: readonly string[]) => Promise<void>,
): Promise<BatchOutcome> {
  const outcome: BatchOutcome = { pushed: [], gone: [], refused: [], failed: [], error: undefined };
  await pushGroup(paths, push, outcome);
  return outcome;
}

async function pushGroup(
  paths: readonly string[],
  push: (paths: readonly string[]) => Promise<void>,
  outcome: BatchOutcome,
): Promise<void> {
  // What stopped one group stops the next one too: a server that is down, a token that has expired.
  if (outcome.error !== undefined) {
    outcome.failed.push(...paths);
    return;
  }
  try {
    await push(paths);
    outcome.pushed.push(...paths);
  } catch (error) {
    if (!(error instanceof CacheError)) throw error;
    if (!isAboutPaths(error)) {
      outcome.failed.push(...paths);
      outcome.error = error;
      return;
    }
    const [only] = paths;
    if (paths.length === 1 && only !== undefined) {
      if (isGone(error)) outcome.gone.push(only);
      else outcome.refused.push({ path: only, error });
      return;
    }
    const middle = Math.ceil(paths.length / 2);
    await pushGroup(paths.slice(0, middle), push, outcome);
    await pushGroup(paths.slice(middle), push, outcome);
  }
}

const ABOUT_PATHS: ReadonlySet<string> = new Set(["INVALID", "CORRUPT", "CONFLICT", "TOO_LARGE"]);

/** Whether these very paths are the trouble, so that trying them again changes nothing. */
function isAboutPaths(error: CacheError): boolean {
  return ABOUT_PATHS.has(error.code) || isGone(error);
}

/** The local store does not have it any more; a server's 404 is about the view and comes with a status. */
function isGone(error: CacheError): boolean {
  return isCacheError(error, "NOT_FOUND") && !("status" in error);
}
