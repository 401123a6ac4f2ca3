import type { Finding } from "./finding.ts";

/** A line for each finding; what is wrong has its cause and its remedy below. */
export function formatFindings(findings: readonly Finding[]): string[] {
  const width = Math.max(...findings.map(({ check }) => check.length));
  const indent = " ".repeat("warning  ".length + width + 2);
  return findings.flatMap(({ check, severity, message, cause, remedy }) => [
    `${severity.padEnd("warning".length)}  ${check.padEnd(width)}  ${message}`,
    ...(cause === undefined ? [] : [`${indent}cause:  ${cause}`]),
    ...(remedy === undefined ? [] : [`${indent}remedy: ${remedy}`]),
  ]);
}

/** How many findings there are of each kind. */
export function countFindings(findings: readonly Finding[]): Record<Finding["severity"], number> {
  const counts = { ok: 0, warning: 0, error: 0, skipped: 0 };
  for (const { severity } of findings) counts[severity] += 1;
  return counts;
}
