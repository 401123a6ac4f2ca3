import { formatDurationMs } from "@glorious/core";
import type { Explanation, Grant } from "@glorious/trust";

import { formatFacts } from "../format-table.ts";

/** An explanation, also of claims that no policy was asked about. */
export type ShownExplanation = Omit<Explanation, "decision"> & {
  readonly decision:
    | { readonly kind: "granted"; readonly grant: Grant }
    | {
        readonly kind: "refused";
        readonly code: string;
        readonly reason: string;
        readonly rule: string | undefined;
      };
};

/** A decision as one line of JSON has it: the keys are there on every outcome. */
export function toDecisionJson({ decision, changes }: ShownExplanation): Record<string, unknown> {
  const grant: Partial<Grant> = decision.kind === "granted" ? decision.grant : {};
  const { rule, reason } = decision.kind === "granted" ? decision.grant : decision;
  return {
    decision: decision.kind,
    ...(decision.kind === "refused" ? { code: decision.code } : {}),
    tenant: grant.tenant ?? null,
    trust: grant.trust ?? null,
    read: grant.read ?? [],
    write: grant.write ?? null,
    overlayOf: grant.overlayOf ?? null,
    rule: rule ?? null,
    reason,
    changes,
  };
}

/** An explanation for people: the answer first, then who asked, the rules, and what would change it. */
export function formatExplanation(
  { decision, rules, otherRules, changes }: ShownExplanation,
  subject: ReadonlyArray<readonly [string, string]>,
): string[] {
  return [
    ...formatAnswer(decision),
    "",
    "The job, as its claims state it:",
    ...indent(formatFacts(subject)),
    "",
    rules.length === 0 ? "No rule is about it." : "Rules about it, the narrowest first:",
    ...indent(formatFacts(rules.map(({ rule, about, part }) => [rule, `${about}: ${part}`]))),
    ...(otherRules > 0 ? [`  (${otherRules} about others)`] : []),
    ...(changes.length === 0 ? [] : ["", "What would change it:", ...indent(changes)]),
  ];
}

function formatAnswer(decision: ShownExplanation["decision"]): string[] {
  if (decision.kind === "refused") {
    return [`Refused (${decision.code}): ${decision.reason}`];
  }
  const { grant } = decision;
  const answer = {
    trusted: "Trusted: it reads and writes the view itself.",
    overlay:
      "Overlay: it reads the view, and what it writes only its own branch or pull request sees.",
    untrusted: "Untrusted: it reads, and writes nothing.",
  }[grant.trust];
  return [
    answer,
    `Because: ${grant.reason}`,
    "",
    ...formatFacts([
      ["tenant", grant.tenant ?? "(the default tenant)"],
      ["reads", grant.read.join(", then ")],
      ["writes", grant.write ?? "nothing"],
      ["token lives", formatDurationMs(grant.lifetimeSeconds * 1000)],
    ]),
  ];
}

function indent(lines: readonly string[]): string[] {
  return lines.map((line) => `  ${line}`);
}
