import type { Logger } from "@glorious/core";

import type { UpstreamFault, UpstreamFaultReason } from "./upstream-fault.ts";

/** What is wrong with upstreams, for people and for figures. */
export interface UpstreamReports {
  /** Counts every fault; of one upstream and one reason, a line is logged at most once a minute. */
  fault(upstream: string, fault: UpstreamFault, subject: string): void;
  /** The latest fault of an upstream, and how long ago it was. */
  lastFault(upstream: string): PastFault | undefined;
}

/** A fault that was reported, without what it was about. */
export interface PastFault {
  readonly reason: UpstreamFaultReason;
  readonly ageMs: number;
}

export interface UpstreamReportsOptions {
  readonly logger: Logger;
  readonly onFault: (upstream: string, reason: UpstreamFaultReason) => void;
  /** Milliseconds that only ever grow. */
  readonly nowMs?: () => number;
}

const LINE_INTERVAL_MS = 60_000;

export function createUpstreamReports(options: UpstreamReportsOptions): UpstreamReports {
  const { logger, onFault, nowMs = () => performance.now() } = options;
  /** For an upstream and a reason: when it was said last, and how often it was not said since. */
  const said = new Map<string, { atMs: number; unsaid: number }>();
  const latest = new Map<string, { readonly reason: UpstreamFaultReason; readonly atMs: number }>();
  return {
    lastFault(upstream) {
      const last = latest.get(upstream);
      return last && { reason: last.reason, ageMs: nowMs() - last.atMs };
    },
    fault(upstream, { reason, message }, subject) {
      onFault(upstream, reason);
      latest.set(upstream, { reason, atMs: nowMs() });
      const key = `${upstream} ${reason}`;
      const last = said.get(key);
      if (last !== undefined && nowMs() - last.atMs < LINE_INTERVAL_MS) {
        last.unsaid += 1;
        return;
      }
      said.set(key, { atMs: nowMs(), unsaid: 0 });
      logger.warn("an upstream gave nothing to believe", {
        upstream,
        reason,
        subject,
        problem: message,
        ...(last === undefined ? {} : { sinceTheLastLine: last.unsaid }),
      });
    },
  };
}
