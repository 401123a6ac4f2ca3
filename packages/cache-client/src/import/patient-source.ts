import { CacheError, type CacheErrorCode } from "@glorious/core";

import { NarSourceError } from "../nar-source.ts";
import type { CacheSource } from "./cache-source.ts";

/** So many paths in a row that the source gave no answer to, each after several tries: it is not there any more. */
const MAX_SILENCES = 5;
const SILENT: ReadonlySet<CacheErrorCode> = new Set(["UNAVAILABLE", "TIMEOUT"]);
/** What no other path of the source would fare better with. */
const FINAL: ReadonlySet<CacheErrorCode> = new Set(["UNAUTHENTICATED", "CANCELLED", "CONFIG"]);

/**
 * Tells failures of single paths, which are thrown as `NarSourceError`, from those of the source as a whole, which are
 * thrown as they are and end the work.
 */
export function createPatientSource(source: CacheSource): CacheSource {
  let silences = 0;
  const answered = (): void => {
    silences = 0;
  };
  const judge = (error: unknown): unknown => {
    if (!(error instanceof CacheError) || FINAL.has(error.code)) return error;
    if (!SILENT.has(error.code)) return new NarSourceError(error);
    silences += 1;
    if (silences < MAX_SILENCES) return new NarSourceError(error);
    return new CacheError(error.code, `${source.name} does not answer: ${error.message}`, {
      cause: error,
      hint: "Run the same command again later: it goes on where it was.",
    });
  };
  return {
    name: source.name,
    storeDir: source.storeDir,
    find: async (storePathHash, signal) => {
      try {
        const path = await source.find(storePathHash, signal);
        answered();
        return path;
      } catch (error) {
        throw judge(error);
      }
    },
    async *read(path, signal) {
      try {
        for await (const chunk of source.read(path, signal)) {
          answered();
          yield chunk;
        }
      } catch (error) {
        throw judge(error);
      }
    },
    list: (signal) => source.list(signal),
    [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
  };
}
