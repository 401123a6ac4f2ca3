import { formatDurationMs, formatSizeBytes } from "@glorious/core";

import type { SessionReport } from "../setup/earlier-session.ts";
import type { SetupResult } from "../setup/setup-request.ts";
import type { AgentSummary, NixMissReason } from "../statistics.ts";

/** What misses are called in front of people. */
const MISSES: Readonly<Record<NixMissReason, string>> = {
  absent: "not in the cache",
  "not-reached": "before the cache was reached",
  "breaker-open": "while the cache was given up",
  timeout: "too late",
  refused: "refused",
  error: "failed",
};

/** A job summary: a small table in Markdown, and below it what the job's people should know. */
export function formatSummary(summary: AgentSummary, report: SessionReport | undefined): string {
  const setup = report?.result;
  const rows: [string, string][] = [["Status", describeStatus(summary, setup)]];
  if (setup?.cache !== undefined) {
    rows.push([
      "Cache",
      setup.trust === undefined ? setup.cache : `${setup.cache} (${setup.trust})`,
    ]);
  }
  if (report?.unused !== undefined) {
    rows.push(["Named by a later step, not used", report.unused.join(", ")]);
  }
  const { nix, bazel, uploads } = summary;
  if (nix !== undefined) {
    rows.push(["Nix", `${count(nix.hits, "path")} from the cache, ${formatSizeBytes(nix.bytes)}`]);
    const views = Object.entries(nix.views);
    const isOwnOnly = views.every(([view]) => view === setup?.cache);
    for (const [view, { hits, bytes }] of isOwnOnly ? [] : views) {
      rows.push([`Nix, from ${view}`, `${count(hits, "path")}, ${formatSizeBytes(bytes)}`]);
    }
    const misses = Object.entries(MISSES)
      .map(([reason, words]) => [nix.misses[reason as NixMissReason], words] as const)
      .filter(([number]) => number > 0)
      .map(([number, words]) => `${number} ${words}`);
    if (misses.length > 0) rows.push(["Nix, not from the cache", misses.join(", ")]);
  }
  if (bazel !== undefined) {
    const { actionHits, actionMisses, bytesDown, bytesUp } = bazel;
    const traffic = `${formatSizeBytes(bytesDown)} down, ${formatSizeBytes(bytesUp)} up`;
    rows.push([
      "Bazel",
      `${actionHits} of ${count(actionHits + actionMisses, "action")}, ${traffic}`,
    ]);
  }
  if (uploads !== undefined) {
    const more = [
      [uploads.skipped, "left out"],
      [uploads.failed, "refused"],
      [uploads.left, "not pushed"],
    ] as const;
    const words = more
      .filter(([number]) => number > 0)
      .map(([number, what]) => `${number} ${what}`);
    const pushed = `${count(uploads.pushed, "path")}, ${formatSizeBytes(uploads.bytes)}`;
    rows.push(["Pushed", [pushed, ...words].join(", ")]);
  }
  for (const { face, opened, openMs } of summary.breakers) {
    if (opened === 0) continue;
    const times = opened === 1 ? "once" : `${opened} times`;
    rows.push([`Cache given up (${face})`, `${times}, ${formatDurationMs(openMs)} in all`]);
  }
  const savedMs = (nix?.savedMsEstimate ?? 0) + (bazel?.savedMsEstimate ?? 0);
  if (savedMs >= 1000) rows.push(["Time saved, estimated", formatDurationMs(savedMs)]);
  const table = rows.map(([name, value]) => `| ${escape(name)} | ${escape(value)} |\n`).join("");
  const warnings = summary.warnings.map((warning) => `- ${escape(warning)}\n`).join("");
  return `### Flywheel cache\n\n| | |\n|---|---|\n${table}${warnings === "" ? "" : `\n${warnings}`}`;
}

function describeStatus(
  { status }: AgentSummary,
  setup: Pick<SetupResult, "reason"> | undefined,
): string {
  return setup === undefined ? status : `${status}: ${setup.reason}`;
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

/** Whatever it is, it stays text in one cell. */
function escape(text: string): string {
  return text
    .replaceAll(/[\r\n]+/g, " ")
    .replaceAll(/[|<>&`[\]]/g, (it) => `&#${it.charCodeAt(0)};`);
}
