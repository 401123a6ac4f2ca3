import { CacheError, type Logger } from "@glorious/core";
import type { BlobStore } from "@glorious/storage";
import type { TokenKey } from "@glorious/trust";

import type { BazelPlane } from "../bazel/bazel-plane.ts";
import type { Invocations } from "../bazel/invocations.ts";
import type { SharedRequestMemory } from "../bazel/memory/request-memory.ts";
import type { InstanceGate } from "../bazel/services/instance-access.ts";
import type { BazelCounters } from "../bazel/view-counters.ts";
import type { ClientBundles } from "../clients/client-bundles.ts";
import type { PathCommitter } from "../commit/path-committer.ts";
import type { Commons } from "../commons/commons.ts";
import type { AccessRecorder } from "../housekeeping/access-recorder.ts";
import type { Collector } from "../housekeeping/collector.ts";
import type { Quarantine } from "../housekeeping/quarantine.ts";
import type { ReadRecorder } from "../housekeeping/read-recorder.ts";
import type { Resigner } from "../housekeeping/resigner.ts";
import type { Revoker } from "../housekeeping/revoker.ts";
import type { Scrubber } from "../housekeeping/scrubber.ts";
import type { Identity } from "../identity/open-identity.ts";
import type { CacheIndex } from "../index/cache-index.ts";
import type { NarIngest } from "../ingest/nar-ingest.ts";
import type { PartUploads } from "../ingest/part-uploads.ts";
import type { ServerMetrics } from "../metrics/server-metrics.ts";
import type { ViewLatencies } from "../metrics/view-latencies.ts";
import type { OverlayKeys } from "../trust/overlay-keys.ts";
import type { TrustGate } from "../trust/trust-gate.ts";
import type { UpstreamReader } from "../upstream/upstream-reader.ts";

/** What the routes share. Each takes what it needs. */
export interface RouteServices {
  readonly index: CacheIndex;
  readonly store: BlobStore;
  readonly gate: TrustGate;
  readonly overlayKeys: OverlayKeys;
  readonly ingest: NarIngest;
  readonly partUploads: PartUploads;
  readonly committer: PathCommitter;
  readonly resigner: Resigner;
  readonly quarantine: Quarantine;
  readonly accesses: AccessRecorder;
  readonly reads: ReadRecorder;
  readonly revoker: Revoker;
  readonly commons: Commons;
  readonly collector: Collector;
  readonly scrubber: Scrubber;
  /** `undefined` where nothing is read through. */
  readonly upstreams: UpstreamReader | undefined;
  /** How long the first bytes of a NAR that comes from an upstream may take. */
  readonly upstreamPatienceMs: number;
  readonly logger: Logger;
  readonly now: () => number;
  readonly limits: RouteLimits;
  /** The address clients reach the server under, with a final slash; asked from the request when not set. */
  readonly publicUrl: string | undefined;
  readonly newTokens: NewTokenOptions;
  /** `undefined` where there is no trust policy. */
  readonly identity: Identity | undefined;
  /** The header in which a trusted proxy names the client. */
  readonly addressHeader: string | undefined;
  /** The view for who names none. */
  readonly defaultView: string | undefined;
  /** What may be kept of an upstream that has no limit of its own. */
  readonly upstreamMaxSizeBytes: number;
  readonly version: string;
  /** `undefined` where the server hands none out. */
  readonly clients: ClientBundles | undefined;
  /** Where a proxy serves the store's directory to itself, with a final slash. */
  readonly accelRedirect: string | undefined;
  /** Memory for narinfos and small NARs that were read, in bytes. */
  readonly answerCacheBytes: number;
  readonly metrics: ServerMetrics;
  readonly latencies: ViewLatencies;
  /** `undefined` where the Bazel cache is off. */
  readonly bazel: BazelServices | undefined;
  /** Figures are for administrators only. */
  readonly metricsNeedAdmin: boolean;
}

/** What the faces of the Bazel cache share. */
export interface BazelServices {
  readonly plane: BazelPlane;
  readonly instances: InstanceGate;
  readonly counters: BazelCounters;
  readonly invocations: Invocations;
  /** For bodies until they are stored. */
  readonly requestMemory: SharedRequestMemory;
}

/** @throws {CacheError} `NOT_FOUND` where the Bazel cache is off. */
export function requireBazel({ bazel }: Pick<RouteServices, "bazel">): BazelServices {
  if (bazel !== undefined) return bazel;
  throw new CacheError("NOT_FOUND", "This server has no Bazel cache", {
    hint: "Its operator turned it off with bazel.enabled.",
  });
}

/** How the tokens are made that an administrator asks for, so that this server accepts them. */
export interface NewTokenOptions {
  /** Without one the server only verifies. */
  readonly key: TokenKey | undefined;
  /** All that verify. */
  readonly keys: readonly TokenKey[];
  readonly issuer: string | undefined;
  readonly audiences: readonly string[];
}

export interface RouteLimits {
  /** How long a client may send nothing in the middle of a body. */
  readonly idleTimeoutMs: number;
  readonly maxNarSizeBytes: number;
  /** The largest preamble, narinfo and `X-Attic-Nar-Info`. */
  readonly maxNarInfoSizeBytes: number;
  readonly maxLogSizeBytes: number;
  readonly maxConcurrentUploads: number;
  /** zstd level of views that have none of their own. */
  readonly compressionLevel: number;
  /** NARs from this size on are to be sent in parts. */
  readonly partThresholdBytes: number;
  /** NAR bytes in each part. */
  readonly partBytes: number;
  /** How long a NAR stays readable once no path needs it. */
  readonly narGraceMs: number;
  /** How long an uploaded file stays readable as it came, once its path is there. */
  readonly uploadedFileMaxAgeMs: number;
}
