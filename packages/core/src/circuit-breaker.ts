/** Where a breaker stands: requests pass, none does, or one is out to try. */
export type BreakerState = "closed" | "open" | "half-open";

/** What may become of a request: it goes out, it goes out as the one that tries, or it is answered without the upstream. */
export type Admission = "pass" | "probe" | "reject";

/** Keeps requests from an upstream that fails, and lets one through now and then to see whether it is back. */
export interface CircuitBreaker {
  /**
   * Asks for one request. Whoever is let through says what became of it by `succeeded` or `failed`; of a request that
   * nobody needs any more neither.
   */
  admit(): Admission;
  /** The upstream answered, be it that something is not there. Closes the breaker, unless it opened since. */
  succeeded(): void;
  /** The upstream did not answer in time, or with nothing but its own trouble. */
  failed(): void;
  /** The upstream is to be left alone for so long: opens at once. */
  rest(durationMs: number): void;
  readonly state: BreakerState;
}

/** Options of {@link createCircuitBreaker}. */
export interface CircuitBreakerOptions {
  /** Failures one after the other that open the breaker; default 3. */
  readonly failuresToOpen?: number;
  /** How long it stays open at first; default 2000. */
  readonly openMs?: number;
  /** Each probe that fails doubles the time, up to this; default 30 000. */
  readonly maxOpenMs?: number;
  /** Milliseconds that only ever grow; default the machine's own clock. */
  readonly nowMs?: () => number;
  /** Told when requests begin to be kept back and when they are no more. */
  readonly onChange?: (state: "open" | "closed") => void;
}

/** A closed breaker. A pure state machine: it has no timers, time passes when somebody asks. */
export function createCircuitBreaker(options: CircuitBreakerOptions = {}): CircuitBreaker {
  const {
    failuresToOpen = 3,
    openMs = 2000,
    maxOpenMs = 30_000,
    nowMs = () => performance.now(),
    onChange = () => {},
  } = options;
  let state: BreakerState = "closed";
  let failures = 0;
  let pauseMs = openMs;
  /** Of an open breaker: when it tries. Of one that tries: when it takes the probe for lost and tries again. */
  let untilMs = 0;

  const open = (durationMs = pauseMs): void => {
    state = "open";
    untilMs = nowMs() + durationMs;
  };

  return {
    admit() {
      if (state === "closed") return "pass";
      if (nowMs() < untilMs) return "reject";
      state = "half-open";
      untilMs = nowMs() + pauseMs;
      return "probe";
    },
    succeeded() {
      // An answer to a request of before says nothing about now.
      if (state === "open") return;
      failures = 0;
      pauseMs = openMs;
      if (state === "closed") return;
      state = "closed";
      onChange("closed");
    },
    failed() {
      if (state === "closed") {
        failures += 1;
        if (failures < failuresToOpen) return;
        open();
        onChange("open");
      } else if (state === "half-open") {
        pauseMs = Math.min(pauseMs * 2, Math.max(openMs, maxOpenMs));
        open();
      }
    },
    rest(durationMs) {
      const isNew = state === "closed";
      // A pause that was there before is not made shorter by who asks for another.
      open(state === "open" ? Math.max(durationMs, untilMs - nowMs()) : durationMs);
      if (isNew) onChange("open");
    },
    get state() {
      return state;
    },
  };
}
