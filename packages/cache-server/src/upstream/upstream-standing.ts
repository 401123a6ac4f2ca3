import { type CircuitBreaker, createCircuitBreaker } from "@glorious/core";

import { isFaultOfTheWay, UpstreamFault } from "./upstream-fault.ts";
import type { UpstreamResponse } from "./upstream-http.ts";
import type { UpstreamReports } from "./upstream-reports.ts";

/** Whether an upstream is worth asking at present, by what its answers were. */
export interface UpstreamStanding extends Pick<CircuitBreaker, "admit" | "state"> {
  /** How a question ended. Of a fault others are told as well, unless the client is closing. */
  report(this: void, fault: UpstreamFault | undefined, subject: string): void;
  /** Turns an answer's head into a body that is worth reading, or `absent`. @throws {UpstreamFault} */
  requireContent(this: void, response: UpstreamResponse): UpstreamResponse | "absent";
}

export interface UpstreamStandingOptions {
  readonly name: string;
  readonly hasCredential: boolean;
  readonly reports: Pick<UpstreamReports, "fault">;
  /** From then on nothing counts any more. */
  readonly signal: AbortSignal;
}

const OPEN_MS = 2000;
const MAX_OPEN_MS = 60_000;
/** The longest pause that an upstream is granted. */
const MAX_PAUSE_MS = 5 * 60_000;

export function createUpstreamStanding(options: UpstreamStandingOptions): UpstreamStanding {
  const breaker = createCircuitBreaker({ openMs: OPEN_MS, maxOpenMs: MAX_OPEN_MS });
  return {
    admit: () => breaker.admit(),
    report(fault, subject) {
      if (options.signal.aborted) return;
      if (fault === undefined) {
        breaker.succeeded();
        return;
      }
      options.reports.fault(options.name, fault, subject);
      // Who hangs once costs everybody the whole deadline: that is enough.
      if (fault.reason === "timeout" || fault.reason === "stalled") breaker.rest(OPEN_MS);
      else if (isFaultOfTheWay(fault.reason)) breaker.failed();
    },
    requireContent(response) {
      const { status } = response;
      if (status === 200 || status === 206) return response;
      response.body.destroy();
      const isAbsent = status === 404 || status === 410;
      // Buckets that nobody may list say so of what they do not have.
      const isHidden = status === 403 && !options.hasCredential;
      if (isAbsent || isHidden) return "absent";
      if (status === 401 || status === 403 || status === 407) {
        throw new UpstreamFault("refused", `it refuses us with ${status}`);
      }
      if (status === 429 || status === 503) {
        breaker.rest(pauseOf(response.header("retry-after")));
        throw new UpstreamFault("rate-limited", `it answered ${status}`);
      }
      throw new UpstreamFault("status", `it answered ${status}`);
    },
    get state() {
      return breaker.state;
    },
  };
}

/** What `Retry-After` asks for, within bounds: an upstream's clock may be anywhere. */
function pauseOf(retryAfter: string | undefined): number {
  if (retryAfter === undefined) return OPEN_MS;
  const seconds = /^\d{1,9}$/.test(retryAfter) ? Number(retryAfter) : Number.NaN;
  const wantedMs = Number.isNaN(seconds) ? Date.parse(retryAfter) - Date.now() : seconds * 1000;
  if (Number.isNaN(wantedMs)) return OPEN_MS;
  return Math.min(Math.max(wantedMs, OPEN_MS), MAX_PAUSE_MS);
}
