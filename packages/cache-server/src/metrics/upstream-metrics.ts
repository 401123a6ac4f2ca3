import { Counter, type Registry } from "prom-client";

import type { DownloadResult } from "../upstream/nar-download.ts";
import type { UpstreamFaultReason } from "../upstream/upstream-fault.ts";

/** What is counted of upstreams. Their names are the operator's, and labels. */
export interface UpstreamMetrics {
  readonly countUpstreamFault: (upstream: string, reason: UpstreamFaultReason) => void;
  readonly countUpstreamDownload: (result: DownloadResult) => void;
}

export function createUpstreamMetrics(registers: Registry[]): UpstreamMetrics {
  const faults = new Counter({
    name: "flywheel_upstream_faults_total",
    help: "Misses because of what is wrong with an upstream, by upstream and reason.",
    labelNames: ["upstream", "reason"] as const,
    registers,
  });
  const downloads = new Counter({
    name: "flywheel_upstream_downloads_total",
    help: "NARs fetched from upstreams, by result: stored, failed.",
    labelNames: ["result"] as const,
    registers,
  });
  const bytes = new Counter({
    name: "flywheel_upstream_bytes_total",
    help: "Bytes of NAR files that came from upstreams.",
    registers,
  });
  return {
    countUpstreamFault: (upstream, reason) => faults.inc({ upstream, reason }),
    countUpstreamDownload({ receivedBytes, fault }) {
      downloads.inc({ result: fault === undefined ? "stored" : "failed" });
      bytes.inc(receivedBytes);
    },
  };
}
