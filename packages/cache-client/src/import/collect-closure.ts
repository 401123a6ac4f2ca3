import type { CacheError } from "@glorious/core";

import { NarSourceError } from "../nar-source.ts";
import { runParallel } from "../run-parallel.ts";
import type { CacheSource, SourcePath } from "./cache-source.ts";

/** Narinfos that are asked for at the same time. */
const QUESTIONS_AT_ONCE = 16;

/** What {@link collectClosure} is told. */
export interface ClosureQuestion {
  readonly source: CacheSource;
  /** Store path hashes, none of them looked at before. */
  readonly roots: readonly string[];
  /** Whether what they refer to is wanted too. */
  readonly followsReferences: boolean;
  /** What was looked at before, in this question or another; grows. */
  readonly seen: Set<string>;
  /** Which of these the view lacks. */
  readonly findMissing: (storePathHashes: readonly string[]) => Promise<ReadonlySet<string>>;
  readonly signal: AbortSignal | undefined;
}

/** A part of a source, as far as a view lacks it. */
export interface CollectedClosure {
  readonly paths: readonly SourcePath[];
  readonly alreadyPresent: number;
  /** Hashes that the source does not have, the roots among them apart. */
  readonly absentRoots: readonly string[];
  readonly elsewhere: number;
  /** By hash, what the source said wrongly or not at all. */
  readonly wrong: ReadonlyMap<string, CacheError>;
}

/**
 * Asks a source for the narinfos of paths and of all they refer to, level by level, without what a view has: that is
 * closed already.
 *
 * @throws {CacheError} what ends the work; see `createPatientSource`.
 */
export async function collectClosure(question: ClosureQuestion): Promise<CollectedClosure> {
  const { source, seen, signal } = question;
  const paths: SourcePath[] = [];
  const absentRoots: string[] = [];
  const wrong = new Map<string, CacheError>();
  let alreadyPresent = 0;
  let elsewhere = 0;
  let level: readonly string[] = question.roots;
  for (let depth = 0; level.length > 0; depth += 1) {
    for (const hash of level) seen.add(hash);
    const missing = await question.findMissing(level);
    alreadyPresent += level.length - missing.size;
    const next = new Set<string>();
    await runParallel(
      [...missing],
      async (hash, taskSignal) => {
        try {
          const path = await source.find(hash, taskSignal);
          if (path === undefined && depth === 0) absentRoots.push(hash);
          else if (path === undefined) elsewhere += 1;
          else {
            paths.push(path);
            for (const reference of path.references) next.add(reference.slice(0, 32));
          }
        } catch (error) {
          if (!(error instanceof NarSourceError)) throw error;
          wrong.set(hash, error);
        }
      },
      { concurrency: QUESTIONS_AT_ONCE, signal },
    );
    level = question.followsReferences ? [...next].filter((hash) => !seen.has(hash)) : [];
  }
  return { paths, alreadyPresent, absentRoots, elsewhere, wrong };
}
