import { CacheError } from "@glorious/core";

import { type CliContext, note, printLine } from "../cli-context.ts";
import type { Finding } from "./finding.ts";
import { countFindings, formatFindings } from "./format-findings.ts";

/** What was examined. */
export interface Examination {
  /** Who is to use the cache, such as `Nix`. */
  readonly tool: string;
  /** The cache's address, as the tool names it. */
  readonly cache: string;
  readonly findings: readonly Finding[];
  /** What JSON says besides. */
  readonly facts: Readonly<Record<string, string>>;
}

/**
 * Prints what an examination found, and whether the tool uses the cache.
 *
 * @throws {CacheError} `CONFIG` with the first error's remedy when it does not: the command's exit code is 1.
 */
export function reportFindings(
  { tool, cache, findings, facts }: Examination,
  asJson: boolean,
  context: CliContext,
): void {
  const counts = countFindings(findings);
  const isHealthy = counts.error === 0;
  if (asJson) printLine(context, JSON.stringify({ ...facts, isHealthy, counts, findings }));
  else for (const line of formatFindings(findings)) printLine(context, line);
  if (isHealthy) {
    note(context, `${tool} uses ${cache}.`);
    return;
  }
  const first = findings.find(({ severity }) => severity === "error");
  throw new CacheError("CONFIG", `${tool} does not use ${cache} as it should`, {
    hint: `Begin with the first error: ${first?.remedy}`,
  });
}
