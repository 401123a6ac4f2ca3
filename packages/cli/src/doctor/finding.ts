/** How bad a finding is: only an `error` keeps the client from using the cache. `skipped` could not be told. */
export type Severity = "ok" | "warning" | "error" | "skipped";

/** What one check found. */
export interface Finding {
  /** The check's name, the same in every run. */
  readonly check: string;
  readonly severity: Severity;
  /** What is so, in one line. Never holds a secret. */
  readonly message: string;
  /** Why that is so, or what the client makes of it. */
  readonly cause?: string;
  /** One command that helps. */
  readonly remedy?: string;
}

/** What a check says beside its own name. */
export type Verdict = Omit<Finding, "check">;

/** All is as it has to be. */
export function ok(message: string): Verdict {
  return { severity: "ok", message };
}

/** It could not be told, for this reason. */
export function skipped(reason: string): Verdict {
  return { severity: "skipped", message: reason };
}

/** The client uses the cache, but something will surprise. */
export function warning(message: string, cause: string, remedy?: string): Verdict {
  return { severity: "warning", message, cause, ...(remedy === undefined ? {} : { remedy }) };
}

/** This keeps the client from using the cache. */
export function failure(message: string, cause: string, remedy: string): Verdict {
  return { severity: "error", message, cause, remedy };
}
