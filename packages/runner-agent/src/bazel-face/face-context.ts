import type { CircuitBreaker, Logger } from "@glorious/core";

import type { Credentials } from "../credentials.ts";
import type { Statistics } from "../statistics.ts";
import type { ForwardedMetadata } from "./forward-metadata.ts";
import type { KeptBlobs } from "./kept-blobs.ts";
import type { UpstreamConnections } from "./upstream-connections.ts";

/** What the calls of a face share. */
export interface FaceContext {
  readonly upstream: UpstreamConnections;
  readonly breaker: CircuitBreaker;
  readonly credentials: Credentials;
  readonly statistics: Statistics;
  readonly metadata: ForwardedMetadata;
  /** `undefined` for a build that downloads everything as soon as it hears of it. */
  readonly kept: KeptBlobs | undefined;
  /** Calls that wait for the cache and not for Bazel. */
  readonly waiting: WaitingCalls;
  /** What the cache said of itself when it was last asked. */
  capabilities: Uint8Array | undefined;
  readonly logger: Logger;
}

/** A call that may wait in vain. */
export interface WaitingCall {
  /** When the cache last did something for it; Infinity while Bazel is the one to go on. */
  readonly sinceMs: number;
  giveUp(): void;
}

/** Gives up calls for which the cache does nothing. */
export interface WaitingCalls extends Disposable {
  add(call: WaitingCall): void;
  delete(call: WaitingCall): void;
}

/** @param limitMs how long a call may wait for the cache */
export function createWaitingCalls(limitMs: number): WaitingCalls {
  const calls = new Set<WaitingCall>();
  const timer = setInterval(() => {
    const latestMs = performance.now() - limitMs;
    for (const call of [...calls]) if (call.sinceMs < latestMs) call.giveUp();
  }, limitMs / 8);
  timer.unref();
  return {
    add: (call) => void calls.add(call),
    delete: (call) => void calls.delete(call),
    [Symbol.dispose]: () => clearInterval(timer),
  };
}
