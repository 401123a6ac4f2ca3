import type { CallFigures } from "../bazel/grpc/call-meters.ts";
import type { RequestMemoryFigures } from "../bazel/memory/request-memory.ts";
import { ViewCounters } from "../bazel/view-counters.ts";

/** What each counter of a view is called among Prometheus' metrics. */
const NAMES: Readonly<Record<keyof ViewCounters, readonly [metric: string, label: string]>> = {
  actionHits: ["actions", 'result="hit"'],
  actionsAbsent: ["actions", 'result="absent"'],
  actionsEvicted: ["actions", 'result="evicted"'],
  actionsIncomplete: ["actions", 'result="incomplete"'],
  actionsStored: ["actions", 'result="stored"'],
  blobsFound: ["blobs", 'result="found"'],
  blobsMissing: ["blobs", 'result="missing"'],
  blobsRead: ["blobs", 'result="read"'],
  blobsNotRead: ["blobs", 'result="absent"'],
  blobsStored: ["blobs", 'result="stored"'],
  blobsPresent: ["blobs", 'result="present"'],
  bytesRead: ["blob_bytes", 'direction="out"'],
  bytesStored: ["blob_bytes", 'direction="in"'],
  valueHits: ["values", 'result="hit"'],
  valueMisses: ["values", 'result="absent"'],
  valuesStored: ["values", 'result="stored"'],
};
const HELP: Readonly<Record<string, string>> = {
  actions:
    "ActionResults asked for and stored, by result; those absent include those evicted lately.",
  blobs: "Blobs looked for (found, missing), read (read, absent) and uploaded (stored, present).",
  blob_bytes: "Uncompressed bytes of blobs that were read (out) and stored (in).",
  values: "Values under keys, asked for and stored.",
};

/**
 * What the Bazel cache counts, in the text format of Prometheus: of all views together, as no label names one.
 * Written here, because counting must cost next to nothing in calls of a few microseconds.
 */
export function renderBazelMetrics(figures: {
  readonly views: Iterable<ViewCounters>;
  readonly calls: readonly CallFigures[];
  /** Blobs and values that turned out to be damaged or gone. */
  readonly lostTotal: number;
  readonly memory: RequestMemoryFigures;
  /** What all tenants remember of what was used lately. */
  readonly remembered: { readonly totalBytes: number; readonly usedBytes: number };
}): string {
  const { views, calls, lostTotal, memory, remembered } = figures;
  const totals = new ViewCounters();
  const fields = Object.keys(NAMES) as (keyof ViewCounters)[];
  for (const view of views) for (const field of fields) totals[field] += view[field];
  const lines = Object.entries(HELP).flatMap(([metric, help]) => [
    `# HELP flywheel_bazel_${metric}_total ${help}`,
    `# TYPE flywheel_bazel_${metric}_total counter`,
    ...fields
      .filter((field) => NAMES[field][0] === metric)
      .map((field) => `flywheel_bazel_${metric}_total{${NAMES[field][1]}} ${totals[field]}`),
  ]);
  const lost = [
    "# HELP flywheel_bazel_lost_total Blobs and values whose stored bytes were found lost or damaged.",
    "# TYPE flywheel_bazel_lost_total counter",
    `flywheel_bazel_lost_total ${lostTotal}`,
  ];
  return [...lines, ...lost, ...renderMemory(memory, remembered), ...renderCalls(calls), ""].join(
    "\n",
  );
}

function renderMemory(
  memory: RequestMemoryFigures,
  remembered: { readonly totalBytes: number; readonly usedBytes: number },
): string[] {
  const { totalBytes, usedBytes, waitingConnections } = memory;
  return [
    "# HELP flywheel_bazel_request_memory_bytes Memory that requests of gRPC and uploads over HTTP share: what there is, and what is in use.",
    "# TYPE flywheel_bazel_request_memory_bytes gauge",
    `flywheel_bazel_request_memory_bytes{state="total"} ${totalBytes}`,
    `flywheel_bazel_request_memory_bytes{state="used"} ${usedBytes}`,
    "# HELP flywheel_bazel_request_memory_waiting Connections with a request that waits for that memory.",
    "# TYPE flywheel_bazel_request_memory_waiting gauge",
    `flywheel_bazel_request_memory_waiting ${waitingConnections}`,
    "# HELP flywheel_bazel_memory_bytes Memory for what all tenants used lately: what there may be, and what is in use.",
    "# TYPE flywheel_bazel_memory_bytes gauge",
    `flywheel_bazel_memory_bytes{state="total"} ${remembered.totalBytes}`,
    `flywheel_bazel_memory_bytes{state="used"} ${remembered.usedBytes}`,
  ];
}

function renderCalls(calls: readonly CallFigures[]): string[] {
  return [
    "# HELP flywheel_grpc_calls_total Calls that ended, by method and gRPC status.",
    "# TYPE flywheel_grpc_calls_total counter",
    ...calls.flatMap(({ method, byStatus }) =>
      [...byStatus].map(
        ([status, count]) =>
          `flywheel_grpc_calls_total{method="${method}",status="${status}"} ${count}`,
      ),
    ),
    "# HELP flywheel_grpc_call_seconds Time from a whole request to its answer, by method.",
    "# TYPE flywheel_grpc_call_seconds histogram",
    ...calls.filter(({ byStatus }) => byStatus.size > 0).flatMap(renderHistogram),
  ];
}

function renderHistogram({ method, latency }: CallFigures): string[] {
  const name = "flywheel_grpc_call_seconds";
  return [
    ...[...latency.cumulated()].map(
      ([bound, count]) => `${name}_bucket{method="${method}",le="${bound}"} ${count}`,
    ),
    `${name}_sum{method="${method}"} ${latency.seconds}`,
    `${name}_count{method="${method}"} ${latency.count}`,
  ];
}
