import { CacheError, createByteBudget } from "@glorious/core";

import type { CacheConfig } from "./cache-config.ts";
import { systemClock } from "./clock.ts";
import { createHttpClient, type TlsOptions } from "./http-client.ts";
import { createDiskSource, type NarSource } from "./nar-source.ts";
import type { PathFacts, PathInfo } from "./path-info.ts";
import { findMissingHashes } from "./push-attic.ts";
import type { FailedPath, PushEvent, PushSummary } from "./push-events.ts";
import { AtticProtocol, FlywheelProtocol, type PushProtocol } from "./push-protocol.ts";
import type { PushOutcome, PushSession, RetryEnvironment } from "./push-session.ts";
import { askCacheConfig } from "./read-cache-config.ts";
import { DEFAULT_RETRY_POLICY, type RetryPolicy } from "./retry.ts";
import { chooseEndpoint, parseServerUrl, requireViewName } from "./server-url.ts";
import { filterUpstream, leaveToUpstreams } from "./upstream-filter.ts";
import { AtticWire } from "./wire-attic.ts";
import { FlywheelWire } from "./wire-flywheel.ts";

/** Options of {@link openCache}. */
export interface OpenCacheOptions {
  /** The server's address, such as `https://cache.example.org`; a path prefix is kept. */
  readonly server: string;
  /** The view's full name, which is the Attic cache name. */
  readonly view: string;
  readonly token?: string | undefined;
  /** Stops the discovery. */
  readonly signal?: AbortSignal | undefined;
  /** Overrides parts of {@link DEFAULT_RETRY_POLICY}. */
  readonly retry?: Partial<RetryPolicy> | undefined;
  /** A request without progress for this long is given up and counts as failed; default 120 000. */
  readonly idleTimeoutMs?: number | undefined;
  /** What all uploads together may keep in memory; default 64 MiB, which keeps the process below 300 MiB. */
  readonly memoryBytes?: number | undefined;
  readonly tls?: TlsOptions | undefined;
  /** Told what discovery found odd and what it retried. */
  readonly onEvent?: ((event: PushEvent) => void) | undefined;
  /** Replaces time and chance; for tests. */
  readonly environment?: Partial<Omit<RetryEnvironment, "policy">> | undefined;
}

/** Options of {@link Cache.push}. */
export interface PushOptions {
  /** Uploads at the same time; default what the server wishes, else 5. Never more than it wishes. */
  readonly concurrency?: number | undefined;
  /** Told what happens, as it happens. Must not throw. */
  readonly onEvent?: ((event: PushEvent) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Replaces the view's upstream key names; an empty list pushes everything, also what the view's upstreams have. */
  readonly upstreamKeyNames?: readonly string[] | undefined;
  /** Asks and plans, but sends nothing. */
  readonly dryRun?: boolean | undefined;
}

/** What {@link Cache.pushFrom} did. */
export interface SourcedPushSummary extends PushSummary {
  /** Paths that the source or the server had something against, and those that need them. */
  readonly failed: readonly FailedPath[];
}

/** What a view lacks of the paths it was asked about. */
export interface MissingPaths {
  readonly paths: readonly PathInfo[];
  /** NAR hashes that must be uploaded for them, in hex. */
  readonly narHashes: ReadonlySet<string>;
}

/** A view of a cache server, ours or an atticd. Dispose it to close its connections. */
export interface Cache extends AsyncDisposable {
  /** `flywheel`: our own server; `attic`: anything else that speaks Attic's API. */
  readonly kind: "flywheel" | "attic";
  /** The base address in use, with a trailing slash: the one given, or where an atticd sent us. */
  readonly server: string;
  readonly view: string;
  readonly config: CacheConfig;
  /** Asks, in batches, which paths the view lacks. The upstream filter is not applied. */
  findMissing(
    paths: readonly PathInfo[],
    options?: Pick<PushOptions, "signal" | "onEvent">,
  ): Promise<MissingPaths>;
  /**
   * Makes the paths available in the view.
   *
   * On our server the closure becomes visible at once or not at all; on an atticd path by path,
   * references first. The first failure stops the push, once what runs has been cancelled.
   *
   * @throws {CacheError} `CORRUPT` when a path is damaged on this machine; `INVALID` when a path is of
   * another store directory; `CANCELLED`; otherwise what the server or the network said.
   */
  push(paths: readonly PathInfo[], options?: PushOptions): Promise<PushSummary>;
  /**
   * The same with NARs from elsewhere, on our server only. A path whose NAR cannot be had is left out, with those that
   * need it, and named in the summary.
   *
   * @throws {CacheError} `UNSUPPORTED` on an atticd; as `push` otherwise.
   */
  pushFrom(
    source: NarSource,
    paths: readonly PathFacts[],
    options?: PushOptions,
  ): Promise<SourcedPushSummary>;
  /** Of these store path hashes, those that the view lacks. */
  findMissingHashes(
    storePathHashes: readonly string[],
    options?: Pick<PushOptions, "signal" | "onEvent">,
  ): Promise<ReadonlySet<string>>;
}

const DEFAULT_CONCURRENCY = 5;
const DEFAULT_MEMORY_BYTES = 64 * 2 ** 20;
/** Someone may be watching: a server that is down should say so within seconds. */
const DISCOVERY_ATTEMPTS = 3;

/**
 * Opens a view: one request tells whether the server is ours or an atticd, and all about the view.
 *
 * @throws {CacheError} `INVALID` for a bad address or view name; `UNAUTHENTICATED`, `FORBIDDEN` or
 * `NOT_FOUND` as the server says; `UNAVAILABLE` or `TIMEOUT` when it cannot be reached; `UNSUPPORTED`
 * when it is no cache server.
 */
export async function openCache(options: OpenCacheOptions): Promise<Cache> {
  const base = parseServerUrl(options.server);
  const view = requireViewName(options.view);
  const emit = options.onEvent ?? ((): void => {});
  const retry: RetryEnvironment = {
    policy: { ...DEFAULT_RETRY_POLICY, ...options.retry },
    clock: options.environment?.clock ?? systemClock,
    random: options.environment?.random ?? Math.random,
  };
  const http = createHttpClient(options);
  try {
    const maxAttempts = Math.min(DISCOVERY_ATTEMPTS, retry.policy.maxAttempts);
    const config = await askCacheConfig(http, base, view, {
      signal: options.signal,
      retry: { ...retry, policy: { ...retry.policy, maxAttempts } },
      onRetry: (notice) => emit({ type: "retry", what: `look-up of view ${view}`, ...notice }),
    });
    const announced = config.flywheel?.api ?? config.apiEndpoint;
    const { url, warning } = chooseEndpoint(base, announced);
    if (warning !== undefined) emit({ type: "warning", message: warning });
    const budget = createByteBudget(options.memoryBytes ?? DEFAULT_MEMORY_BYTES);
    const shared = { http, retry, budget };
    if (config.flywheel === undefined) {
      const wire = new AtticWire(http, url, view);
      return createCache("attic", url, view, config, shared, new AtticProtocol(wire), wire);
    }
    const api = warning === undefined ? url : new URL("_flywheel/v1/", base);
    const protocol = new FlywheelProtocol(new FlywheelWire(http, api, view));
    const attic = new AtticWire(http, base, view);
    return createCache("flywheel", base, view, config, shared, protocol, attic);
  } catch (error) {
    await http[Symbol.asyncDispose]();
    throw error;
  }
}

function createCache(
  kind: Cache["kind"],
  server: URL,
  view: string,
  config: CacheConfig,
  shared: Pick<PushSession, "http" | "retry" | "budget">,
  protocol: PushProtocol,
  attic: AtticWire,
): Cache {
  const pushFrom = (
    source: NarSource,
    paths: readonly PathFacts[],
    options: PushOptions,
    skipsFailed: boolean,
  ): Promise<SourcedPushSummary> =>
    push(paths, { ...options, source, skipsFailed }, config, shared, protocol);
  return {
    kind,
    server: server.href,
    view,
    config,
    findMissing: async (paths, options = {}) => {
      const emit = options.onEvent ?? ((): void => {});
      const asking = { ...shared, emit, signal: options.signal, skipUpstream: false };
      const answer = await protocol.findMissing(paths, asking);
      return {
        paths: paths.filter(({ storePath }) => answer.missingPaths.has(storePath.hash)),
        narHashes: answer.missingNars,
      };
    },
    push: async (paths, options = {}) => {
      const { failed: _, ...summary } = await pushFrom(
        createDiskSource(paths),
        paths,
        options,
        false,
      );
      return summary;
    },
    pushFrom: (source, paths, options = {}) => {
      if (kind === "flywheel") return pushFrom(source, paths, options, true);
      const message = `${server.href} is no GloriousFlywheel server: it takes no import`;
      return Promise.reject(new CacheError("UNSUPPORTED", message));
    },
    findMissingHashes: (storePathHashes, { onEvent = () => {}, signal } = {}) =>
      findMissingHashes(attic, storePathHashes, { ...shared, emit: onEvent, signal }),
    [Symbol.asyncDispose]: () => shared.http[Symbol.asyncDispose](),
  };
}

async function push(
  given: readonly PathFacts[],
  options: PushOptions & Pick<PushSession, "source" | "skipsFailed">,
  config: CacheConfig,
  shared: Pick<PushSession, "http" | "retry" | "budget">,
  protocol: PushProtocol,
): Promise<SourcedPushSummary> {
  const startedMs = shared.retry.clock.nowMs();
  const emit = options.onEvent ?? ((): void => {});
  const session: PushSession = {
    ...shared,
    concurrency: chooseConcurrency(options.concurrency, config.flywheel?.maxConcurrentUploads),
    compressionLevel: config.flywheel?.compressionLevel,
    uploadParts: config.flywheel?.uploadParts,
    source: options.source,
    skipsFailed: options.skipsFailed,
    emit,
    signal: options.signal,
  };
  const paths = [...new Map(given.map((path) => [path.storePath.path, path])).values()];
  requireStoreDir(paths, config.storeDir);
  const keyNames = options.upstreamKeyNames ?? config.upstreamCacheKeyNames ?? [];
  const signed = filterUpstream(paths, keyNames);
  // Whoever wants everything pushed has said so by an empty list.
  const skipUpstream = options.upstreamKeyNames?.length !== 0;
  const answer = await protocol.findMissing(signed.kept, { ...session, skipUpstream });
  const { kept, skipped: inUpstreams } = leaveToUpstreams(signed.kept, answer.upstreamPaths);
  const skipped = [...signed.skipped, ...inUpstreams];
  for (const group of skipped) emit({ type: "skipped", ...group });
  const missing = kept.filter(({ storePath }) => answer.missingPaths.has(storePath.hash));
  const uploads = new Map(
    missing
      .filter(({ narHash }) => answer.missingNars.has(narHash))
      .map(({ narHash, narSize }) => [narHash, narSize]),
  );
  emit({
    type: "planned",
    paths: paths.length,
    skipped: paths.length - kept.length,
    alreadyPresent: kept.length - missing.length,
    missing: missing.length,
    uploads: uploads.size,
    uploadBytes: [...uploads.values()].reduce((sum, sizeBytes) => sum + sizeBytes, 0),
  });
  const dryRun = options.dryRun ?? false;
  const outcome: PushOutcome =
    dryRun || missing.length === 0
      ? { uploaded: 0, deduplicated: 0, conflicts: [], failed: [], narBytes: 0, sentBytes: 0 }
      : await protocol.push(kept, answer, session);
  return {
    paths: paths.length,
    alreadyPresent: kept.length - missing.length,
    missing: missing.length,
    skipped,
    ...outcome,
    durationMs: shared.retry.clock.nowMs() - startedMs,
    dryRun,
  };
}

function chooseConcurrency(asked: number | undefined, advised: number | undefined): number {
  const wanted = asked ?? advised ?? DEFAULT_CONCURRENCY;
  if (!Number.isInteger(wanted) || wanted < 1) {
    throw new CacheError("INVALID", `${wanted} is no number of uploads at the same time`, {
      hint: "Write a whole number from 1.",
    });
  }
  return Math.min(wanted, advised ?? wanted);
}

function requireStoreDir(paths: readonly PathFacts[], storeDir: string | undefined): void {
  const stranger = paths.find(
    ({ storePath }) => storePath.storeDir !== (storeDir ?? storePath.storeDir),
  );
  if (stranger === undefined) return;
  throw new CacheError(
    "INVALID",
    `${stranger.storePath.path} cannot go into a view whose store directory is ${storeDir}`,
    { hint: "Name a view made for this store directory." },
  );
}
