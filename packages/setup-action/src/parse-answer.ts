import type { DrainResult, SetupResult } from "@glorious/runner-agent";

const STATUSES = new Set<unknown>(["ready", "read-only", "pending", "degraded", "disabled"]);

/** @throws {Error} when it is no answer of `flywheel setup` that this action understands. */
export function parseSetupResult(answer: unknown): SetupResult {
  const fields = asFields(answer, "setup");
  if (fields["version"] !== 1 || !STATUSES.has(fields["status"])) {
    throw new Error("flywheel setup gave an answer of another version");
  }
  // The command is of the same bundle: beyond its version nothing of it can differ.
  return answer as SetupResult;
}

/** @throws {Error} when it is no answer of `flywheel drain`. */
export function parseDrainResult(answer: unknown): DrainResult {
  const fields = asFields(answer, "drain");
  if (typeof fields["report"] !== "object" || fields["report"] === null) {
    throw new Error("flywheel drain gave no report");
  }
  return answer as DrainResult;
}

function asFields(answer: unknown, word: string): Readonly<Record<string, unknown>> {
  if (typeof answer === "object" && answer !== null) return answer as Record<string, unknown>;
  throw new Error(`flywheel ${word} gave no answer that can be read`);
}
