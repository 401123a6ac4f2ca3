import { type CallReceiver, GRPC_STATUS, type ServerCall } from "@glorious/grpc";

/** Upper bounds of the time that a call took, in seconds. */
export const CALL_SECONDS_BUCKETS: readonly number[] = [
  0.0001, 0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60,
];

/** What is known of a method's calls that have ended. */
export interface CallFigures {
  /** `Service/Method`. */
  readonly method: string;
  /** Calls by their gRPC status. */
  readonly byStatus: ReadonlyMap<number, number>;
  /** Calls that took no longer than the bound of that place, and longer than the one before. */
  readonly buckets: readonly number[];
  readonly seconds: number;
}

/** Counts and times calls. */
export interface CallMeters {
  /** The same receiver, measured. Calls that it answers later are to be told of by `end`. */
  measured(path: string, receiver: CallReceiver): CallReceiver;
  /** Told when a call that was answered later has its answer. */
  end(call: ServerCall): void;
  figures(): readonly CallFigures[];
}

export function createCallMeters(): CallMeters {
  const meters = new Map<string, Meter>();
  const startedAtMs = new WeakMap<ServerCall, number>();

  const end = (call: ServerCall): void => {
    const started = startedAtMs.get(call);
    if (started === undefined) return;
    startedAtMs.delete(call);
    meters.get(call.path)?.count(statusOf(call), performance.now() - started);
  };

  return {
    measured(path, receiver) {
      const meter = new Meter(path.slice(path.lastIndexOf(".") + 1));
      meters.set(path, meter);
      return {
        ...receiver,
        onMessage(call, message) {
          // A call of many messages is as long as all of them.
          if (receiver.manualConsume === true && !startedAtMs.has(call)) {
            startedAtMs.set(call, performance.now());
          }
          receiver.onMessage(call, message);
        },
        onHalfClose(call) {
          if (receiver.manualConsume === true) {
            receiver.onHalfClose(call);
            return;
          }
          const started = performance.now();
          receiver.onHalfClose(call);
          // Most calls are answered in the turn they come in.
          if (call.isOver) meter.count(statusOf(call), performance.now() - started);
          else startedAtMs.set(call, started);
        },
      };
    },
    end,
    figures: () => [...meters.values()],
  };
}

/** What a call ended with; one that nobody finished was given up by its client. */
function statusOf({ status }: ServerCall): number {
  return status ?? GRPC_STATUS.CANCELLED;
}

class Meter implements CallFigures {
  readonly method: string;
  readonly byStatus: Map<number, number> = new Map();
  readonly buckets: number[] = CALL_SECONDS_BUCKETS.map(() => 0);
  seconds = 0;

  constructor(method: string) {
    this.method = method;
  }

  count(status: number, durationMs: number): void {
    const seconds = durationMs / 1000;
    this.byStatus.set(status, (this.byStatus.get(status) ?? 0) + 1);
    this.seconds += seconds;
    const at = CALL_SECONDS_BUCKETS.findIndex((bound) => seconds <= bound);
    if (at >= 0) this.buckets[at] = (this.buckets[at] ?? 0) + 1;
  }
}
