import type { Logger } from "@glorious/core";

import type { Credentials } from "../credentials.ts";
import type { Statistics } from "../statistics.ts";
import { createKnownPaths, type KnownPaths } from "./known-paths.ts";
import { createClosureSource, createPlainSource, type NarInfoSource } from "./narinfo-source.ts";
import { createReadAhead, type ReadAhead } from "./read-ahead.ts";
import type { Spool } from "./spool.ts";
import type { UpstreamHealth } from "./upstream-health.ts";
import { createUpstream, type Upstream } from "./upstream.ts";

/** A cache that a Nix face stands for. */
export interface NixUpstream {
  /** `flywheel` answers whole closures; `attic` is signed in to; `plain` is any binary cache. */
  readonly kind: "flywheel" | "attic" | "plain";
  /** What Nix would have as its substituter. */
  readonly substituterUrl: string;
  /** Our server's `_flywheel/v1/`. */
  readonly api?: URL | undefined;
  readonly view: string;
}

/** A cache with what the face has learned of it. */
export interface NixCache extends AsyncDisposable {
  readonly view: string;
  /** With a final slash. */
  readonly cacheUrl: URL;
  readonly cacheInfoUrl: URL;
  readonly upstream: Upstream;
  readonly known: KnownPaths;
  readonly source: NarInfoSource;
  readonly readAhead: ReadAhead;
  /** Paths whose bytes were not what their narinfo says. */
  readonly wrong: ReadonlySet<string>;
}

/** Options of {@link openNixCache}. */
export interface NixCacheOptions {
  /** Whether it is read besides the job's own: that it takes the token no more says nothing about its server. */
  readonly isExtra: boolean;
  readonly credentials: Credentials;
  readonly health: UpstreamHealth;
  readonly spool: Spool;
  readonly prefetch: boolean;
  /** Larger NAR files are read when Nix asks for them. */
  readonly prefetchMaxBytes: number;
  readonly deadlineMs: number;
  readonly stallMs: number;
  readonly statistics: Statistics;
  readonly logger: Logger;
  readonly nowMs: () => number;
}

/** The cache's address with a final slash. */
export function cacheUrlOf({ substituterUrl }: Pick<NixUpstream, "substituterUrl">): URL {
  return new URL(substituterUrl.replace(/\/*(\?.*)?$/, "/"));
}

/** A cache that nothing was asked of yet. */
export function openNixCache(cache: NixUpstream, options: NixCacheOptions): NixCache {
  const { health, spool, prefetch, stallMs, statistics, logger, nowMs } = options;
  const cacheUrl = cacheUrlOf(cache);
  const cacheInfoUrl = new URL("nix-cache-info", cacheUrl);
  const upstream = createUpstream({
    probeUrl: cacheInfoUrl,
    isForbiddenAbsent: cache.kind === "plain",
    isRefusalTrouble: !options.isExtra,
    credentials: options.credentials,
    deadlineMs: options.deadlineMs,
    health,
    nowMs,
  });
  const known = createKnownPaths(nowMs);
  const common = { upstream, known, cacheUrl, logger, nowMs };
  const closureUrl =
    cache.kind === "flywheel" && cache.api !== undefined && prefetch
      ? new URL(`views/${encodeURIComponent(cache.view)}/closure`, cache.api)
      : undefined;
  const source =
    closureUrl === undefined
      ? createPlainSource({ ...common, walksAhead: prefetch })
      : createClosureSource({ ...common, closureUrl });
  const wrong = new Set<string>();
  const readAhead = createReadAhead({
    ...common,
    spool,
    maxNarBytes: prefetch ? options.prefetchMaxBytes : 0,
    stallMs,
    statistics,
    onWrong: ({ storePathHash, url }) => {
      wrong.add(storePathHash);
      logger.warn("the cache sent wrong bytes", { storePathHash, url, view: cache.view });
      statistics.warn(
        "The cache sent bytes that are not what it signed; these paths are built or fetched elsewhere",
      );
    },
  });
  return {
    ...{ view: cache.view, cacheUrl, cacheInfoUrl, upstream, known, source, readAhead, wrong },
    async [Symbol.asyncDispose]() {
      await readAhead[Symbol.asyncDispose]();
      await upstream[Symbol.asyncDispose]();
    },
  };
}
