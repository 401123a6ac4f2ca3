import { CacheError, type Logger } from "@glorious/core";
import type { BlobStore } from "@glorious/storage";
import { createTokenVerifier } from "@glorious/trust";

import { createAdopter } from "./adoption/adopt-overlays.ts";
import type { BazelPlane } from "./bazel/bazel-plane.ts";
import { createCallMeters } from "./bazel/grpc/call-meters.ts";
import { createGrpcFace } from "./bazel/grpc/grpc-face.ts";
import { createInvocations } from "./bazel/invocations.ts";
import { shareRequestMemory } from "./bazel/memory/request-memory.ts";
import { createInstanceGate } from "./bazel/services/instance-access.ts";
import { createBazelCounters } from "./bazel/view-counters.ts";
import type { ClientBundles } from "./clients/client-bundles.ts";
import { createPathCommitter } from "./commit/path-committer.ts";
import { createCommons } from "./commons/commons.ts";
import type { ServerSettings } from "./config/settings.ts";
import type { TokenKeys } from "./config/token-keys.ts";
import { createAccessRecorder } from "./housekeeping/access-recorder.ts";
import { createCollector } from "./housekeeping/collector.ts";
import { createQuarantine } from "./housekeeping/quarantine.ts";
import { createReadRecorder } from "./housekeeping/read-recorder.ts";
import { createResigner } from "./housekeeping/resigner.ts";
import { createRevoker } from "./housekeeping/revoker.ts";
import { createScrubber } from "./housekeeping/scrubber.ts";
import { startSweeper } from "./housekeeping/sweeper.ts";
import { createUpstreamTrimmer } from "./housekeeping/upstream-trimmer.ts";
import { KEEP_ALIVE_TIMEOUT_MS, type Listener, startListener } from "./http/listener.ts";
import { createRequestHandler } from "./http/request-handler.ts";
import { openIdentity } from "./identity/open-identity.ts";
import type { CacheIndex } from "./index/cache-index.ts";
import { createFetchedNars } from "./ingest/fetched-nars.ts";
import { createHeldObjects } from "./ingest/held-objects.ts";
import { createNarIngest } from "./ingest/nar-ingest.ts";
import { createPartUploads } from "./ingest/part-uploads.ts";
import { createUploadMemory } from "./ingest/upload-memory.ts";
import { renderBazelMetrics } from "./metrics/bazel-metrics.ts";
import { createServerMetrics } from "./metrics/server-metrics.ts";
import { ViewLatencies } from "./metrics/view-latencies.ts";
import type { IndexChanges } from "./read-cache/index-changes.ts";
import { allRoutes } from "./routes/all-routes.ts";
import type { BazelServices, RouteServices } from "./routes/route-services.ts";
import { createOverlayKeys } from "./trust/overlay-keys.ts";
import { createOverlays } from "./trust/overlays.ts";
import { createQuotas } from "./trust/quotas.ts";
import { createTrustGate, type TrustGate } from "./trust/trust-gate.ts";
import { NO_VIEW_POLICY, type ViewPolicy } from "./trust/view-policy.ts";
import { openUpstreamReader } from "./upstream/upstream-reader.ts";
import { SERVER_VERSION } from "./version.ts";

/** What a server stands on. It uses them and does not close them. */
export interface ServerParts {
  readonly settings: ServerSettings;
  readonly index: CacheIndex;
  readonly store: BlobStore;
  readonly tokenKeys: TokenKeys;
  /** At least 32 bytes that the signing keys of overlays are derived from; the same for all replicas. */
  readonly overlaySecret: Uint8Array;
  /** Every tenant's Bazel data; without it there is no Bazel cache. */
  readonly bazel?: BazelPlane | undefined;
  readonly logger: Logger;
  /** Milliseconds since the epoch; the system's clock by default. */
  readonly now?: () => number;
  /** Tells when the index has changed; without it nothing read from it is remembered. */
  readonly indexChanges?: IndexChanges | undefined;
  /** What is said about views in the place of the trust policy's file. */
  readonly viewPolicy?: ViewPolicy | undefined;
  /** The view for who names none. */
  readonly defaultView?: string | undefined;
  /** For NARs while they come from upstreams; without it nothing is read through. */
  readonly spoolDirectory?: string | undefined;
  /** The client that jobs may fetch; without it none. */
  readonly clients?: ClientBundles | undefined;
  /** The server's own paces, where the defaults are not wanted. */
  readonly timings?: Partial<ServerTimings>;
}

/** Durations that no operator has a reason to set. */
export interface ServerTimings {
  /** How long a second upload of one NAR waits for the first before it does the work itself. */
  readonly maxDuplicateWaitMs: number;
  /** How long a request waits for an upload's parts to become one object before it is told to ask again. */
  readonly maxCompletionWaitMs: number;
  /** How long a connection may stand still while the server waits for its client. */
  readonly connectionTimeoutMs: number;
  /** How long an exchange waits for what it takes over; the client waits for the exchange. */
  readonly maxAdoptionWaitMs: number;
  /** How often access times are written, at most; every write empties the memory of what was read. */
  readonly accessFlushIntervalMs: number;
  /** How often the commons looks for what tenants have come to agree on. */
  readonly commonsIntervalMs: number;
  /** How long nothing must have been fetched from upstreams before what came is encoded anew. */
  readonly reencodeQuietMs: number;
  /** How soon room is given back when too much was fetched from an upstream. */
  readonly trimDelayMs: number;
  /** How long a NAR that an upstream has stays readable when its last path is gone: its reader may be on the way. */
  readonly fetchedNarGraceMs: number;
}

/** A running server. Disposing of it finishes running requests first, up to the shutdown timeout. */
export interface CacheServer extends AsyncDisposable {
  /** Where it listens, without a final slash. */
  readonly url: string;
  close(): Promise<void>;
}

/** About 20 000 narinfos, more than the closure of one system has. */
const ANSWER_CACHE_BYTES = 32 * 2 ** 20;

/** For Bazel's requests of all connections and what is made of them until they are stored. */
const REQUEST_BYTES = 48 * 2 ** 20;
const RESIGN_INTERVAL_MS = 60_000;
/** Entries, writers and consumers that a revocation names; it counts them all. */
const REVOKED_LISTED = 1000;

function defaultTimings({ idleTimeoutMs }: ServerSettings): ServerTimings {
  return {
    maxDuplicateWaitMs: 30_000,
    accessFlushIntervalMs: 60_000,
    commonsIntervalMs: 30_000,
    reencodeQuietMs: 3000,
    trimDelayMs: 1000,
    fetchedNarGraceMs: 60_000,
    maxCompletionWaitMs: 20_000,
    maxAdoptionWaitMs: 3000,
    connectionTimeoutMs: Math.max(2 * idleTimeoutMs, KEEP_ALIVE_TIMEOUT_MS + 1000),
  };
}

/** @throws {CacheError} `CONFIG` when the address, the TLS files or the token keys are unusable. */
export async function startCacheServer(parts: ServerParts): Promise<CacheServer> {
  const { settings, index, store, tokenKeys, logger, now = Date.now } = parts;
  const timings = { ...defaultTimings(settings), ...parts.timings };
  const verifier = createTokenVerifier({
    keys: tokenKeys.keys,
    issuer: settings.tokenIssuer,
    audiences: settings.tokenAudiences,
    requireExpiry: settings.tokenRequireExpiry,
  });
  // From here on a failure must let go of the port: who sees it closes the index under whoever still listens.
  await using started = new AsyncDisposableStack();
  const identity = await openIdentity({
    settings,
    tokenKeys,
    index,
    now,
    logger,
    onExchange: (result) => metrics.countExchange(result),
    onPolicyProblem: () => metrics.countPolicyProblem(),
    adopt: (wish) => adopter.adopt(wish),
  });
  if (identity !== undefined) started.use(identity);
  const viewPolicy = parts.viewPolicy ?? identity?.viewPolicy ?? NO_VIEW_POLICY;
  const overlayKeys = createOverlayKeys(parts.overlaySecret);
  const quotas = createQuotas({
    index,
    bazel: parts.bazel?.usage,
    policy: viewPolicy,
    now,
    overlayMaxTotalSizeBytes: settings.overlayMaxTotalSizeBytes,
  });
  parts.bazel?.limitViews((view) => quotas.capOf(view, "bazel"));
  const gate = createTrustGate({
    index,
    verifier,
    now,
    changes: parts.indexChanges,
    viewPolicy,
    overlays: createOverlays({
      index,
      keys: overlayKeys,
      policy: viewPolicy,
      quotas,
      limits: settings,
      logger,
      now,
    }),
  });
  const latencies = new ViewLatencies();
  const bazel = parts.bazel && bazelServices(parts.bazel, { gate, now, latencies });
  const meters = createCallMeters();
  const metrics = createServerMetrics({
    countQuarantined: () => index.countQuarantined(),
    countWaitingWrites: () => index.waitingWrites,
    measureUpstreams: () => measureUpstreams(index),
    latencies,
    namesViews: settings.metricsNameViews,
    renderBazel: () =>
      bazel === undefined
        ? ""
        : renderBazelMetrics({
            views: bazel.counters.all(),
            calls: meters.figures(),
            lostTotal: bazel.plane.lostTotal,
            memory: bazel.requestMemory.figures(),
            remembered: bazel.plane.memory,
          }),
  });
  const resigner = createResigner({ index, logger, intervalMs: RESIGN_INTERVAL_MS });
  const quarantine = createQuarantine({
    index,
    store,
    logger,
    now,
    onQuarantined: metrics.countQuarantined,
  });
  const accesses = createAccessRecorder({
    index,
    logger,
    now,
    resolutionMs: settings.accessResolutionMs,
    flushIntervalMs: timings.accessFlushIntervalMs,
  });
  const reads = createReadRecorder({
    index,
    logger,
    now,
    flushIntervalMs: timings.accessFlushIntervalMs,
    isEnabled: settings.recordReads,
  });
  const collector = createCollector({
    index,
    accesses,
    logger,
    now,
    defaultRetentionMs: settings.defaultRetentionMs,
    upstreamMaxSizeBytes: settings.upstreamMaxSizeBytes,
    capOf: (view) => quotas.capOf(view, "nix"),
    accessResolutionMs: settings.accessResolutionMs,
    narGraceMs: settings.narGraceMs,
    fetchedNarGraceMs: timings.fetchedNarGraceMs,
    intervalMs: settings.collectIntervalMs,
    onCollected: metrics.countCollection,
  });
  const scrubber = createScrubber({
    index,
    store,
    quarantine,
    scrubBazel: parts.bazel?.scrub,
    logger,
    now,
    intervalMs: settings.scrubIntervalMs,
    bytesPerSecond: settings.scrubBytesPerSecond,
    onScanned: metrics.countScrubbed,
    onFullPass: metrics.setFullPass,
  });
  const pendingMaxAgeMs = settings.pendingNarMaxAgeMs;
  const takingIn = {
    index,
    store,
    held: createHeldObjects({ index, quarantine, now, pendingMaxAgeMs }),
    memory: createUploadMemory({
      totalBytes: settings.uploadMemoryBytes,
      maxWaitMs: settings.idleTimeoutMs,
      onChange: metrics.setUploadMemory,
    }),
    now,
    maxNarSizeBytes: settings.maxNarSizeBytes,
    pendingMaxAgeMs,
  };
  const ingest = metrics.countUploads(
    createNarIngest({
      ...takingIn,
      level: settings.compressionLevel,
      maxWaitMs: timings.maxDuplicateWaitMs,
    }),
  );
  const committer = createPathCommitter({
    index,
    logger,
    now,
    onOutdated: (view) => resigner.kick(view),
    onCreated: () => commons.kick(),
  });
  const trimmer = createUpstreamTrimmer({
    index,
    collector,
    logger,
    maxSizeBytes: settings.upstreamMaxSizeBytes,
    delayMs: timings.trimDelayMs,
    onTrimmed: () => sweeper.sweepAfter(timings.fetchedNarGraceMs + 1),
  });
  const upstreams =
    parts.spoolDirectory === undefined
      ? undefined
      : await openUpstreamReader({
          index,
          fetched: createFetchedNars({ ...takingIn, level: settings.compressionLevel }),
          committer,
          logger,
          now,
          directory: parts.spoolDirectory,
          settings,
          onFault: metrics.countUpstreamFault,
          reencodeQuietMs: timings.reencodeQuietMs,
          onDownloaded: metrics.countUpstreamDownload,
          onStored: (upstream, fileBytes) => trimmer.note(upstream, fileBytes),
        });
  const adopter = createAdopter({
    index,
    committer,
    bazel: parts.bazel,
    logger,
    now,
    roomOf: (view) => quotas.trustedRoomOf(view),
    maxWaitMs: timings.maxAdoptionWaitMs,
    onAdopted: metrics.countAdopted,
  });
  const partUploads = createPartUploads({
    index,
    store,
    ingest,
    now,
    maxNarSizeBytes: settings.maxNarSizeBytes,
    maxAgeMs: settings.pendingNarMaxAgeMs,
    limits: {
      maxUploads: settings.maxPartUploads,
      maxNarBytes: settings.maxPartUploadNarBytes,
    },
    maxWaitMs: timings.maxCompletionWaitMs,
  });
  const commons = createCommons({
    index,
    store,
    ingest,
    committer,
    policy: viewPolicy,
    logger,
    now,
    intervalMs: timings.commonsIntervalMs,
    onPlaced: metrics.countPlaced,
    onWithdrawn: metrics.countWithdrawn,
  });
  const revoker = createRevoker({
    index,
    bazel: bazel?.plane,
    reads,
    now,
    limit: REVOKED_LISTED,
    onChange: () => commons.reconsider(),
  });
  await revoker.resume();
  const services: RouteServices = {
    bazel,
    index,
    store,
    gate,
    overlayKeys,
    metrics,
    metricsNeedAdmin: settings.metricsNeedAdmin,
    latencies,
    ingest,
    partUploads,
    committer,
    resigner,
    quarantine,
    accesses,
    reads,
    revoker,
    commons,
    collector,
    scrubber,
    upstreams,
    // Less than what clients take for a hang.
    upstreamPatienceMs: 2 * settings.upstreamDeadlineMs,
    logger,
    now,
    limits: settings,
    publicUrl: settings.publicUrl,
    newTokens: {
      key: tokenKeys.signing,
      keys: tokenKeys.keys,
      issuer: settings.tokenIssuer,
      audiences: settings.tokenAudiences,
    },
    identity,
    addressHeader: settings.trustAddressHeader,
    defaultView: parts.defaultView,
    upstreamMaxSizeBytes: settings.upstreamMaxSizeBytes,
    version: SERVER_VERSION,
    clients: parts.clients,
    accelRedirect: settings.accelRedirect,
    answerCacheBytes: ANSWER_CACHE_BYTES,
  };
  const stopping = new AbortController();
  const stopListening = (listener: Listener): Promise<void> =>
    listener.close(settings.shutdownTimeoutMs, () =>
      stopping.abort(new CacheError("CANCELLED", "The server is stopping")),
    );
  // After the requests, one of which may wait for it.
  started.defer(() => resigner.stop());
  started.defer(() => adopter.stop());
  started.defer(() => commons.stop());
  started.defer(() => upstreams?.stop());
  started.defer(() => accesses.stop());
  started.defer(() => reads.stop());
  started.defer(() => partUploads.stop());
  const grpc =
    bazel &&
    createGrpcFace({
      gate,
      meters,
      memory: bazel.requestMemory,
      instances: bazel.instances,
      invocations: bazel.invocations,
      allowedHosts: settings.allowedHosts,
      maxBlobBytes: settings.bazelMaxBlobSizeBytes,
      logger,
    });
  // After the calls that run.
  started.defer(() => grpc?.stop());
  const listener = await startListener(
    createRequestHandler({
      routes: allRoutes(services),
      gate,
      logger,
      logsRequests: settings.logRequests,
      onAnswered: metrics.countRequest,
      allowedHosts: settings.allowedHosts,
      signal: stopping.signal,
    }),
    {
      listen: settings.listen,
      tls:
        settings.tlsCert === undefined || settings.tlsKey === undefined
          ? undefined
          : {
              cert: settings.tlsCert,
              key: settings.tlsKey,
              clientCa: settings.tlsClientCa,
              reloadIntervalMs: settings.tlsReloadIntervalMs,
            },
      connectionTimeoutMs: timings.connectionTimeoutMs,
      grpc,
      logger,
    },
  );
  started.defer(() => stopListening(listener));
  identity?.listensAt(listener.url);
  // Before the requests, which would wait for them.
  started.defer(() => collector.stop());
  started.defer(() => trimmer.stop());
  started.defer(() => scrubber.stop());
  resigner.start();
  accesses.start();
  reads.start();
  commons.start();
  collector.start();
  scrubber.start();
  const sweeper = startSweeper({
    index,
    store,
    logger,
    now,
    objectGraceMs: settings.objectGraceMs,
    provenanceMaxAgeMs: settings.provenanceMaxAgeMs,
    upstreamPathMaxAgeMs: settings.upstreamPositiveTtlMs,
    intervalMs: settings.sweepIntervalMs,
    onSwept: metrics.countSweep,
  });
  started.defer(() => sweeper.stop());
  logger.info("listening", { url: listener.url, version: SERVER_VERSION });
  const running = started.move();
  const close = (): Promise<void> => running.disposeAsync();
  return { url: listener.url, close, [Symbol.asyncDispose]: close };
}

async function measureUpstreams(index: CacheIndex): Promise<ReadonlyMap<string, number>> {
  const sizes = new Map<string, number>();
  for (const { name, viewId } of await index.listUpstreams()) {
    sizes.set(name, await index.viewBytes(viewId));
  }
  return sizes;
}

function bazelServices(
  plane: BazelPlane,
  options: {
    readonly gate: TrustGate;
    readonly now: () => number;
    readonly latencies: ViewLatencies;
  },
): BazelServices {
  const { gate, now, latencies } = options;
  const counters = createBazelCounters();
  return {
    plane,
    counters,
    instances: createInstanceGate(gate, plane, { counters, latencies }),
    invocations: createInvocations(now),
    requestMemory: shareRequestMemory(REQUEST_BYTES, gate),
  };
}
