import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";

import { H2Connection } from "./h2-connection.ts";
import { Http1Connection } from "./http1-connection.ts";
import { Recorder } from "./recorder.ts";
import type { Ring } from "./ring.ts";

export interface Target {
  readonly host: string;
  readonly port: number;
}

/** One connection that plays its ring. */
export interface LoadConnection {
  start(): void;
  /** Begins nothing new. */
  stop(): void;
  close(): void;
}

export interface ReplayOptions {
  readonly protocol: "h2c" | "http1";
  /** One for each connection. */
  readonly rings: readonly Ring[];
  /** Calls at once on each connection; HTTP/1.1 has one. */
  readonly depth: number;
  /** How long to measure after the warm-up; undefined plays every ring once, all of it measured. */
  readonly measureMs: number | undefined;
  readonly warmUpMs?: number;
}

export interface ReplayResult {
  readonly perSecond: number;
  readonly answers: number;
  readonly wrong: number;
  readonly firstWrong: string | undefined;
  readonly bodyBytesPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** A server that does not answer any more is not waited for longer. */
const DRAIN_MS = 20_000;

/** Plays rings of requests against a server and says how fast it answered. */
export async function replay(target: Target, options: ReplayOptions): Promise<ReplayResult> {
  const { rings, depth, protocol, measureMs, warmUpMs = 500 } = options;
  const recorder = new Recorder();
  const idle = rings.map(() => Promise.withResolvers<void>());
  const connections: LoadConnection[] = rings.map((ring, place) => {
    const each = {
      depth: Math.min(depth, ring.length),
      limit: measureMs === undefined ? ring.length : Infinity,
      recorder,
      onIdle: () => idle[place]?.resolve(),
    };
    return protocol === "h2c"
      ? new H2Connection(target, ring, each)
      : new Http1Connection(target, ring, each);
  });
  try {
    let startedAtMs = performance.now();
    for (const connection of connections) connection.start();
    const allIdle = Promise.all(idle.map(({ promise }) => promise));
    if (measureMs === undefined) await allIdle;
    else {
      await Promise.race([sleep(warmUpMs), allIdle]);
      recorder.reset();
      startedAtMs = performance.now();
      await Promise.race([sleep(measureMs), allIdle]);
    }
    const seconds = (performance.now() - startedAtMs) / 1000;
    const result = {
      perSecond: recorder.answers / seconds,
      answers: recorder.answers,
      bodyBytesPerSecond: recorder.bodyBytes / seconds,
      p50Ms: recorder.quantile(0.5),
      p99Ms: recorder.quantile(0.99),
    };
    for (const connection of connections) connection.stop();
    await Promise.race([allIdle, sleep(DRAIN_MS, undefined, { ref: false })]);
    return { ...result, wrong: recorder.wrong, firstWrong: recorder.firstWrong };
  } finally {
    for (const connection of connections) connection.close();
  }
}
