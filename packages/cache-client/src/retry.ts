import { CacheError, formatDurationMs, isCacheError } from "@glorious/core";

import { cancelled, throwIfCancelled } from "./cancellation.ts";
import type { Clock } from "./clock.ts";
import { NarSourceError } from "./nar-source.ts";
import { ResponseError } from "./response-error.ts";

/** How often and how long a failed request is repeated. */
export interface RetryPolicy {
  /** Attempts in all, the first included. */
  readonly maxAttempts: number;
  /** The longest wait before the second attempt; it doubles from there. */
  readonly baseDelayMs: number;
  /** No wait of our own is longer; a `Retry-After` may be. */
  readonly maxDelayMs: number;
  /**
   * Time from the first failure to the start of the last attempt. Counted from the failure, so that
   * an upload which breaks after an hour still gets its second chance.
   */
  readonly maxTotalMs: number;
}

/** Patient enough for a server that restarts, and over within ten minutes. */
export const DEFAULT_RETRY_POLICY: RetryPolicy = {
  maxAttempts: 6,
  baseDelayMs: 500,
  maxDelayMs: 30_000,
  maxTotalMs: 600_000,
};

/** What happened so far to one request. */
export interface RetryState {
  /** Attempts that have failed, at least 1. */
  readonly failedAttempts: number;
  /** Milliseconds since the first failure. */
  readonly elapsedMs: number;
  /** How long the server asked to be left alone. */
  readonly retryAfterMs: number | undefined;
}

/**
 * How long to wait before the next attempt, or `undefined` to give up.
 *
 * Exponential with full jitter: anywhere between nothing and the doubled bound, so that many clients
 * who failed together do not come back together. A `Retry-After` is a floor, the jitter comes on top.
 *
 * @param random - A number in [0, 1).
 * @see https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export function planRetryMs(
  policy: RetryPolicy,
  state: RetryState,
  random: number,
): number | undefined {
  if (state.failedAttempts >= policy.maxAttempts) return undefined;
  const bound = Math.min(policy.maxDelayMs, policy.baseDelayMs * 2 ** (state.failedAttempts - 1));
  const delayMs = (state.retryAfterMs ?? 0) + Math.round(random * bound);
  return state.elapsedMs + delayMs > policy.maxTotalMs ? undefined : delayMs;
}

const FINAL_SERVER_STATUSES: ReadonlySet<number> = new Set([501, 505, 507, 511]);

/**
 * Tells whether the same request may succeed later: trouble on the network, 408, 429, a 5xx that is
 * not a statement about the request, or a body that arrived cut short. Anything rejected is final, and
 * so is what a source says: it has tried again itself.
 */
export function isTransient(error: unknown): boolean {
  if (error instanceof NarSourceError) return false;
  if (error instanceof ResponseError) {
    if (error.code === "TRUNCATED") return true;
    return (
      error.status === 408 ||
      error.status === 429 ||
      (error.status >= 500 && !FINAL_SERVER_STATUSES.has(error.status))
    );
  }
  return isCacheError(error, "UNAVAILABLE") || isCacheError(error, "TIMEOUT");
}

/** A failed attempt that will be followed by another. */
export interface RetryNotice {
  /** Attempts that have failed. */
  readonly attempt: number;
  readonly delayMs: number;
  readonly error: CacheError;
}

/** What {@link withRetry} needs beside the attempt. */
export interface RetryOptions {
  /** What is tried, for messages: `upload of /nix/store/…`. */
  readonly what: string;
  readonly policy: RetryPolicy;
  readonly clock: Clock;
  /** A number in [0, 1). */
  readonly random: () => number;
  readonly signal?: AbortSignal | undefined;
  readonly onRetry?: ((notice: RetryNotice) => void) | undefined;
}

/**
 * Runs `attempt` until it succeeds, fails for good, or the policy is used up; then the last error is
 * thrown as it is.
 *
 * @throws {CacheError} `CANCELLED` when the signal fires while waiting.
 */
export async function withRetry<T>(
  attempt: (number: number) => Promise<T>,
  options: RetryOptions,
): Promise<T> {
  const { what, policy, clock, signal } = options;
  let firstFailureMs: number | undefined;
  for (let number = 1; ; number += 1) {
    throwIfCancelled(signal, what);
    try {
      return await attempt(number);
    } catch (error) {
      if (!(error instanceof CacheError) || !isTransient(error)) throw error;
      firstFailureMs ??= clock.nowMs();
      const retryAfterMs = error instanceof ResponseError ? error.retryAfterMs : undefined;
      const state = {
        failedAttempts: number,
        elapsedMs: clock.nowMs() - firstFailureMs,
        retryAfterMs,
      };
      const delayMs = planRetryMs(policy, state, options.random());
      if (delayMs === undefined) throw error;
      options.onRetry?.({ attempt: number, delayMs, error });
      await sleep(delayMs, options);
    }
  }
}

async function sleep(delayMs: number, { clock, signal, what }: RetryOptions): Promise<void> {
  try {
    await clock.sleep(delayMs, signal);
  } catch (error) {
    if (signal?.aborted === true) throw cancelled(signal, what);
    throw error;
  }
}

/**
 * Reads a `Retry-After` header: seconds or an HTTP date.
 *
 * @param nowMs - The wall clock, to tell how far off a date is.
 * @returns Milliseconds, or `undefined` when the header is absent or unreadable.
 */
export function parseRetryAfterMs(value: string | undefined, nowMs: number): number | undefined {
  if (value === undefined) return undefined;
  const text = value.trim();
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const dateMs = /^[A-Za-z]{3,9},? /.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(dateMs) ? undefined : Math.max(0, dateMs - nowMs);
}

/** `attempt 2 failed, next in 1.5 s`: the words for a retry in a log. */
export function describeRetry(notice: RetryNotice): string {
  return `attempt ${notice.attempt} failed (${notice.error.message}), next in ${formatDurationMs(notice.delayMs)}`;
}
