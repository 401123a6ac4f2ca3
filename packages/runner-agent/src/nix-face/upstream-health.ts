import { type CircuitBreaker, createCircuitBreaker, type Logger } from "@glorious/core";

import type { Statistics } from "../statistics.ts";

/** Whether a server is well, as far as all who ask it have seen; people hear of it once. */
export interface UpstreamHealth extends Pick<CircuitBreaker, "admit"> {
  /** A request came to a good end, or to none. */
  report(trouble?: string): void;
  /** Whether the server is asked at all at present. */
  readonly isAsked: boolean;
}

/** Options of {@link createUpstreamHealth}. */
export interface UpstreamHealthOptions {
  /** For people. */
  readonly origin: string;
  readonly statistics: Statistics;
  readonly logger: Logger;
  readonly nowMs: () => number;
}

/** A server of which nothing bad is known. */
export function createUpstreamHealth(options: UpstreamHealthOptions): UpstreamHealth {
  const { origin, statistics, logger, nowMs } = options;
  let lastTrouble = "";
  let isWarned = false;
  const warnOnce = (): void => {
    if (isWarned) return;
    isWarned = true;
    statistics.warn(
      `The cache at ${origin} is in trouble (${lastTrouble}); what it has is built or fetched elsewhere meanwhile`,
    );
  };
  const breaker: CircuitBreaker = createCircuitBreaker({
    nowMs,
    onChange(state) {
      statistics.breaker("nix", state);
      if (state === "closed") logger.info("the cache answers again", { origin });
      else {
        logger.warn("the cache is not asked for a while", { origin, trouble: lastTrouble });
        warnOnce();
      }
    },
  });
  return {
    admit: () => breaker.admit(),
    report(trouble) {
      if (trouble === undefined) {
        breaker.succeeded();
        return;
      }
      lastTrouble = trouble;
      breaker.failed();
    },
    get isAsked() {
      return breaker.state === "closed";
    },
  };
}
