import { CacheError, type CacheErrorCode } from "@glorious/core";

import { type CheckedNarOptions, readCheckedNar } from "./checked-nar.ts";
import type { PathFacts, PathInfo } from "./path-info.ts";

/** Where the NARs of a push come from. */
export interface NarSource {
  /**
   * The NAR. Its last chunk comes only once hash and size are known to be right.
   *
   * @throws {CacheError} `NarSourceError` when only this path cannot be had; anything else ends the push.
   */
  readNar(path: PathFacts, options: CheckedNarOptions): AsyncIterable<Buffer>;
  /**
   * The NAR as zstd, with the same promise; `undefined` when the source has it in another form.
   *
   * @throws {CacheError} as `readNar`.
   */
  readEncoded?(path: PathFacts, options: CheckedNarOptions): AsyncIterable<Buffer> | undefined;
}

/** One path of a source cannot be had, whatever became of the others; trying it again is the source's own affair. */
export class NarSourceError extends CacheError {
  constructor(error: CacheError) {
    super(error.code, error.message, { hint: error.hint, cause: error });
  }
}

/** The machine's own store. What is damaged there ends the push. */
export function createDiskSource(paths: readonly PathInfo[]): NarSource {
  const realPaths = new Map(paths.map((path) => [path.storePath.path, path]));
  return {
    readNar: (path, options) => {
      const local = realPaths.get(path.storePath.path);
      if (local === undefined) throw new Error(`${path.storePath.path} is no path of this push`);
      return readCheckedNar(local, options);
    },
  };
}

/** Refusals of a server that concern the NAR which was sent, and no other. */
const REFUSALS_OF_ONE: ReadonlySet<CacheErrorCode> = new Set([
  "CORRUPT",
  "INVALID",
  "TOO_LARGE",
  "UNSUPPORTED",
]);

/** Whether a refusal by a server says something of one NAR only. */
export function concernsOneNar(error: CacheError): boolean {
  return REFUSALS_OF_ONE.has(error.code);
}
