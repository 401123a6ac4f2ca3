import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";

import type { CollectionReport } from "../housekeeping/collector.ts";
import type { SweepResult } from "../housekeeping/sweeper.ts";
import type { AnsweredRequest } from "../http/request-handler.ts";
import type { NarIngest } from "../ingest/nar-ingest.ts";
import { createIdentityMetrics, type IdentityMetrics } from "./identity-metrics.ts";
import { createScrubMetrics } from "./scrub-metrics.ts";
import { createUpstreamMetrics, type UpstreamMetrics } from "./upstream-metrics.ts";
import type { ViewLatencies } from "./view-latencies.ts";
import { observeRequest, renderViewLatencies } from "./view-metrics.ts";

/** What the server counts, for Prometheus. No label names a path or a token, nor a view unless that is asked for. */
export interface ServerMetrics extends IdentityMetrics, UpstreamMetrics {
  readonly countRequest: (request: AnsweredRequest) => void;
  /** The same ingest, counted. */
  countUploads(ingest: NarIngest): NarIngest;
  readonly countSweep: (result: SweepResult) => void;
  readonly countQuarantined: () => void;
  readonly setUploadMemory: (takenBytes: number, waitingUploads: number) => void;
  /** `undefined`: one that failed. */
  readonly countCollection: (report: CollectionReport | undefined) => void;
  readonly countScrubbed: (fileSize: number) => void;
  /** Notes when a scrub last went through everything. */
  readonly setFullPass: (atMs: number) => void;
  /** The text format of Prometheus, and its content type. */
  render(): Promise<{ readonly text: string; readonly contentType: string }>;
}

/** Reading routes, by what they read: their answers are hits and misses. */
const READS: Readonly<Record<string, string>> = {
  "/:view/:hash.narinfo": "narinfo",
  "/:view/nar/:file": "nar",
  "/:view/:hash.ls": "listing",
  "/:view/log/:name": "log",
  "/:view/realisations/:name.doi": "realisation",
  "/:view/build-trace-v2/:derivation/:name.doi": "realisation",
};

/** Memory, processor time, garbage collection and event-loop delay are the process's, not a server's. */
let processMetrics: Registry | undefined;

/** Figures that are asked for when they are read. */
export interface MetricsSources {
  readonly countQuarantined: () => Promise<number>;
  readonly countWaitingWrites: () => number;
  /** The stored bytes of what was fetched, by the upstream's name. */
  readonly measureUpstreams: () => Promise<ReadonlyMap<string, number>>;
  /** What the Bazel cache counts by itself, in the text format; empty where there is none. */
  readonly renderBazel: () => string;
  readonly latencies: ViewLatencies;
  /** Whether the figures of views are shown with their names. */
  readonly namesViews: boolean;
}

export function createServerMetrics(sources: MetricsSources): ServerMetrics {
  if (processMetrics === undefined) {
    processMetrics = new Registry();
    collectDefaultMetrics({ register: processMetrics });
  }
  const registry = new Registry();
  const registers = [registry];
  const requests = new Counter({
    name: "flywheel_requests_total",
    help: "Requests answered, by method, route and status.",
    labelNames: ["method", "route", "status"] as const,
    registers,
  });
  const seconds = new Histogram({
    name: "flywheel_request_seconds",
    help: "Time from a request's head to the end of its answer, by route.",
    labelNames: ["route"] as const,
    buckets: [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 300],
    registers,
  });
  const cutShort = new Counter({
    name: "flywheel_answers_cut_total",
    help: "Answers that ended before they were complete, by route.",
    labelNames: ["route"] as const,
    registers,
  });
  const bytes = new Counter({
    name: "flywheel_bytes_total",
    help: "Bytes of bodies taken in, and of whole answers sent, by direction (in, out).",
    labelNames: ["direction"] as const,
    registers,
  });
  const reads = new Counter({
    name: "flywheel_cache_reads_total",
    help: "Reads of the cache by what was read and result: hit, absent, refused, error.",
    labelNames: ["kind", "result"] as const,
    registers,
  });
  const uploads = new Counter({
    name: "flywheel_uploads_total",
    help: "NARs taken in, by result: uploaded, deduplicated, failed.",
    labelNames: ["result"] as const,
    registers,
  });
  const uploadedNarBytes = new Counter({
    name: "flywheel_uploaded_nar_bytes_total",
    help: "Uncompressed bytes of NARs that were taken in.",
    registers,
  });
  const uploadsRunning = new Gauge({
    name: "flywheel_uploads_running",
    help: "NARs being taken in now.",
    registers,
  });
  const uploadMemory = new Gauge({
    name: "flywheel_upload_memory_bytes",
    help: "Memory set aside for the uploads under way.",
    registers,
  });
  const uploadsWaiting = new Gauge({
    name: "flywheel_uploads_waiting",
    help: "Uploads that wait for memory.",
    registers,
  });
  const writesWaiting = new Gauge({
    name: "flywheel_index_writes_waiting",
    help: "Writes to the index that wait for the batch before them.",
    registers,
  });
  const swept = new Counter({
    name: "flywheel_swept_total",
    help: "What the sweep removed, by kind: holdings, uploadedFiles, objects, partUploads.",
    labelNames: ["kind"] as const,
    registers,
  });
  const upstreamBytes = new Gauge({
    name: "flywheel_upstream_stored_bytes",
    help: "Stored bytes of what was fetched, by upstream.",
    labelNames: ["upstream"] as const,
    registers,
  });
  const countCollection = createCollectionMetrics(registers);
  const scrubs = createScrubMetrics(registers);

  return {
    ...createIdentityMetrics(registers),
    ...createUpstreamMetrics(registers),
    countRequest(request) {
      const { route } = request;
      observeRequest(sources.latencies, request);
      requests.inc({ method: request.method, route, status: String(request.status) });
      seconds.observe({ route }, request.durationMs / 1000);
      if (!request.isComplete) cutShort.inc({ route });
      bytes.inc({ direction: "in" }, request.bytesReceived);
      bytes.inc({ direction: "out" }, request.bytesSent);
      const kind = request.method === "GET" ? READS[route] : undefined;
      if (kind !== undefined) reads.inc({ kind, result: resultOf(request.status) });
    },
    countUploads: (ingest) => ({
      ...ingest,
      async ingest(upload) {
        uploadsRunning.inc();
        try {
          const result = await ingest.ingest(upload);
          uploads.inc({ result: result.kind });
          uploadedNarBytes.inc(result.object.narSize);
          return result;
        } catch (error) {
          uploads.inc({ result: "failed" });
          throw error;
        } finally {
          uploadsRunning.dec();
        }
      },
    }),
    countSweep(result) {
      for (const [kind, count] of Object.entries(result)) swept.inc({ kind }, count);
    },
    countQuarantined: scrubs.countQuarantined,
    countCollection,
    countScrubbed: scrubs.countScrubbed,
    setFullPass: scrubs.setFullPass,
    setUploadMemory(takenBytes, waitingUploads) {
      uploadMemory.set(takenBytes);
      uploadsWaiting.set(waitingUploads);
    },
    async render() {
      scrubs.setQuarantined(await sources.countQuarantined());
      writesWaiting.set(sources.countWaitingWrites());
      const fetched = await sources.measureUpstreams();
      // One that was removed has no figure.
      upstreamBytes.reset();
      for (const [upstream, stored] of fetched) upstreamBytes.set({ upstream }, stored);
      const texts = await Promise.all([registry.metrics(), processMetrics?.metrics() ?? ""]);
      texts.push(sources.renderBazel());
      if (sources.namesViews) texts.push(renderViewLatencies(sources.latencies));
      return { text: texts.join("\n"), contentType: registry.contentType };
    },
  };
}

function createCollectionMetrics(registers: Registry[]): ServerMetrics["countCollection"] {
  const runs = new Counter({
    name: "flywheel_gc_runs_total",
    help: "Collections of a view, by result: completed, failed.",
    labelNames: ["result"] as const,
    registers,
  });
  const deletedPaths = new Counter({
    name: "flywheel_gc_deleted_paths_total",
    help: "Paths that collections deleted.",
    registers,
  });
  const freedBytes = new Counter({
    name: "flywheel_gc_freed_bytes_total",
    help: "Stored bytes of NARs that a view let go in collections.",
    registers,
  });
  const seconds = new Histogram({
    name: "flywheel_gc_seconds",
    help: "How long collections of a view took.",
    buckets: [0.01, 0.1, 1, 10, 60, 600],
    registers,
  });
  const lastSuccess = new Gauge({
    name: "flywheel_gc_last_success_timestamp_seconds",
    help: "When a collection last completed, in seconds since 1970; 0 for none since the start.",
    registers,
  });
  return (report) => {
    runs.inc({ result: report === undefined ? "failed" : "completed" });
    if (report === undefined) return;
    deletedPaths.inc(report.deleted);
    freedBytes.inc(report.freedBytes);
    seconds.observe(report.durationMs / 1000);
    lastSuccess.setToCurrentTime();
  };
}

function resultOf(status: number): "hit" | "absent" | "refused" | "error" {
  if (status < 400) return "hit";
  if (status === 404) return "absent";
  return status === 401 || status === 403 ? "refused" : "error";
}
