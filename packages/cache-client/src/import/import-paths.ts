import { CacheError } from "@glorious/core";

import type { NarSource } from "../nar-source.ts";
import type { Cache } from "../open-cache.ts";
import type { PathFacts } from "../path-info.ts";
import type { CacheSource, SourcePath } from "./cache-source.ts";
import type { TransferEvent, TransferSummary } from "./transfer-events.ts";
import { transferPaths } from "./transfer-paths.ts";
import { readVerifiedFile, readVerifiedNar } from "./verified-nar.ts";

/** What {@link importPaths} needs. */
export interface ImportOptions {
  readonly source: CacheSource;
  /** The view that takes the paths; on a server of ours. */
  readonly cache: Cache;
  /** Store path hashes, some perhaps twice. */
  readonly roots: AsyncIterable<string> | Iterable<string>;
  /** Whether what they refer to is imported too. */
  readonly followsReferences: boolean;
  /** Uploads at the same time. */
  readonly concurrency?: number | undefined;
  /** Asks and plans, but sends nothing; `added` is what would be. */
  readonly dryRun?: boolean | undefined;
  /** Must not throw. */
  readonly onEvent?: ((event: TransferEvent) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Brings paths of another cache into a view: whole closures, references before those that refer to them, each NAR verified
 * on its way by us and once more by the server.
 *
 * What is wrong or missing is told by an event, left out together with all that needs it, and does not hinder the rest. What
 * the view has is not asked for again, so that an import that was broken off goes on when it is run again.
 *
 * @throws {CacheError} `INVALID` when source and view have other store directories; what ended the work: the source or
 *   the server cannot be reached, a token is refused, `CANCELLED`.
 */
export async function importPaths(options: ImportOptions): Promise<TransferSummary> {
  const { cache, source, roots, followsReferences, concurrency, signal } = options;
  const { onEvent = () => {}, dryRun = false } = options;
  const storeDir = cache.config.storeDir ?? source.storeDir;
  if (storeDir !== source.storeDir) {
    throw new CacheError(
      "INVALID",
      `${source.name} holds paths of ${source.storeDir}, the view ${cache.view} takes those of ${storeDir}`,
      { hint: "Name a view that was made for this store directory." },
    );
  }
  return transferPaths({
    source,
    roots,
    followsReferences,
    onEvent,
    signal,
    target: {
      findMissing: (hashes) => cache.findMissingHashes(hashes, { signal, onEvent }),
      deliver: async (patient, paths) => {
        const pushed = await cache.pushFrom(narSourceOf(patient, paths), paths, {
          concurrency,
          dryRun,
          // What is asked for by name is wanted, whoever signed it.
          upstreamKeyNames: [],
          onEvent,
          signal,
        });
        return {
          added: dryRun ? pushed.missing : pushed.uploaded + pushed.deduplicated,
          alreadyPresent: pushed.alreadyPresent,
          failed: pushed.failed,
          narBytes: pushed.narBytes,
          fileBytes: pushed.sentBytes,
        };
      },
    },
  });
}

/** What a push reads from: each path's file as its narinfo describes it. */
function narSourceOf(source: CacheSource, paths: readonly SourcePath[]): NarSource {
  const byPath = new Map(paths.map((path) => [path.storePath.path, path]));
  const find = ({ storePath }: PathFacts): SourcePath => {
    const path = byPath.get(storePath.path);
    if (path === undefined) throw new Error(`${storePath.path} is no path of this import`);
    return path;
  };
  return {
    readNar: (path, options) => readVerifiedNar(source, find(path), options),
    readEncoded: (path, options) => {
      const found = find(path);
      return found.compression === "zstd" ? readVerifiedFile(source, found, options) : undefined;
    },
  };
}
