import { type CallReceiver, GRPC_STATUS, type ServerCall } from "@glorious/grpc";

import { LatencyHistogram } from "../../metrics/view-latencies.ts";

/** What is known of a method's calls that have ended. */
export interface CallFigures {
  /** `Service/Method`. */
  readonly method: string;
  /** Calls by their gRPC status. */
  readonly byStatus: ReadonlyMap<number, number>;
  readonly latency: LatencyHistogram;
}

/** Counts and times calls. */
export interface CallMeters {
  /** The same receiver, measured. Calls that it answers later are to be told of by `end`. */
  measured(path: string, receiver: CallReceiver): CallReceiver;
  /** Told in the turn in which a call comes where its time counts as well. */
  attribute(latency: LatencyHistogram): void;
  /** The same later. */
  attributeLater(call: ServerCall, latency: LatencyHistogram): void;
  /** Told when a call that was answered later has its answer. */
  end(call: ServerCall): void;
  figures(): readonly CallFigures[];
}

export function createCallMeters(): CallMeters {
  const meters = new Map<string, Meter>();
  const unfinished = new WeakMap<ServerCall, Unfinished>();
  /** Where the call of this turn counts. */
  let attributed: LatencyHistogram | undefined;

  const end = (call: ServerCall): void => {
    const begun = unfinished.get(call);
    if (begun === undefined) return;
    unfinished.delete(call);
    const durationMs = performance.now() - begun.startedAtMs;
    meters.get(call.path)?.count(statusOf(call), durationMs);
    (begun.latency ?? attributed)?.observe(durationMs);
  };

  return {
    measured(path, receiver) {
      const meter = new Meter(path.slice(path.lastIndexOf(".") + 1));
      meters.set(path, meter);
      return {
        ...receiver,
        onMessage(call, message) {
          let begun: Unfinished | undefined;
          // A call of many messages is as long as all of them.
          if (receiver.manualConsume === true && !unfinished.has(call)) {
            begun = { startedAtMs: performance.now(), latency: undefined };
            unfinished.set(call, begun);
          }
          attributed = undefined;
          receiver.onMessage(call, message);
          if (begun !== undefined) begun.latency ??= attributed;
          attributed = undefined;
        },
        onHalfClose(call) {
          if (receiver.manualConsume === true) {
            receiver.onHalfClose(call);
            return;
          }
          const startedAtMs = performance.now();
          attributed = undefined;
          receiver.onHalfClose(call);
          const latency = attributed as LatencyHistogram | undefined;
          attributed = undefined;
          // Most calls are answered in the turn they come in.
          if (call.isOver) {
            const durationMs = performance.now() - startedAtMs;
            meter.count(statusOf(call), durationMs);
            latency?.observe(durationMs);
          } else unfinished.set(call, { startedAtMs, latency });
        },
      };
    },
    attribute: (latency) => {
      attributed = latency;
    },
    attributeLater(call, latency) {
      const begun = unfinished.get(call);
      if (begun === undefined) attributed = latency;
      else begun.latency = latency;
    },
    end,
    figures: () => [...meters.values()],
  };
}

interface Unfinished {
  readonly startedAtMs: number;
  latency: LatencyHistogram | undefined;
}

/** What a call ended with; one that nobody finished was given up by its client. */
function statusOf({ status }: ServerCall): number {
  return status ?? GRPC_STATUS.CANCELLED;
}

class Meter implements CallFigures {
  readonly method: string;
  readonly byStatus: Map<number, number> = new Map();
  readonly latency: LatencyHistogram = new LatencyHistogram();

  constructor(method: string) {
    this.method = method;
  }

  count(status: number, durationMs: number): void {
    this.byStatus.set(status, (this.byStatus.get(status) ?? 0) + 1);
    this.latency.observe(durationMs);
  }
}
