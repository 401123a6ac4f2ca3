import { CacheError } from "@glorious/core";

import type { SessionStatus } from "../statistics.ts";
import type { SetupRequest, SetupResult, SetupWarning } from "./setup-request.ts";
import type { Stopwatch } from "./stopwatch.ts";

/** Warnings that take nothing away from what was asked for. */
const HARMLESS: ReadonlySet<string> = new Set(["no-hook", "no-push", "extra-caches"]);

/** What the people of a job are to be told about its set-up, as it comes up. */
export class SetupNews {
  readonly warnings: SetupWarning[] = [];
  readonly notes: string[] = [];
  /** Tools that are not here: of no interest to who gets nothing at all. */
  readonly lacks: string[] = [];
  readonly #request: SetupRequest;
  readonly #signal: AbortSignal;
  readonly #stopwatch: Stopwatch;

  /** @param signal Aborted when the time of the set-up is over. */
  constructor(request: SetupRequest, signal: AbortSignal, stopwatch: Stopwatch) {
    this.#request = request;
    this.#signal = signal;
    this.#stopwatch = stopwatch;
  }

  /** The first warning that takes something away from what was asked for. */
  get trouble(): SetupWarning | undefined {
    return this.warnings.find(({ code }) => !HARMLESS.has(code));
  }

  warn(code: string, message: string, hint?: string): void {
    this.warnings.push({ code, message, ...(hint !== undefined && { hint }) });
  }

  /** What was given up because the time is over has one reason, whatever it was. */
  fail(code: string, error: unknown): void {
    if (!this.#signal.aborted) {
      const hint = error instanceof CacheError ? error.hint : undefined;
      this.warn(code, error instanceof Error ? error.message : String(error), hint);
    } else if (!this.warnings.some((warning) => warning.code === "too-slow")) {
      const { timeoutSeconds } = this.#request;
      this.warn("too-slow", `The set-up was not done within its ${timeoutSeconds} s`);
    }
  }

  /** A tool that is missing is a trouble where it alone was asked for; others have what they asked for. */
  lack(code: string, message: string, hint?: string): void {
    if (this.#request.kinds.length === 1) this.warn(code, message, hint);
    else this.lacks.push(message);
  }

  /** The result of a set-up that changed nothing, with one warning at least. */
  without(status: SessionStatus, reason: string, hint?: readonly string[]): SetupResult {
    if (this.warnings.length === 0) this.warn(status, reason, hint?.join("\n"));
    return this.nothing(status, reason, hint);
  }

  /** The result of a set-up that was to change nothing. */
  nothing(status: SessionStatus, reason: string, hint?: readonly string[]): SetupResult {
    return {
      version: 1,
      status,
      reason,
      ...(hint !== undefined && { hint }),
      canPush: false,
      pushMode: "none",
      extraCaches: [],
      publicKeys: [],
      environment: { FLYWHEEL_STATUS: status },
      path: [],
      masks: [],
      warnings: this.warnings,
      notes: this.notes,
      existing: false,
      timings: this.#stopwatch.timings(),
    };
  }
}
