import { nearestWord } from "@glorious/core";
import * as v from "valibot";

import { checkPolicy } from "./check-policy.ts";
import { compilePolicy } from "./compile-policy.ts";
import { fieldsAt } from "./fields-at.ts";
import { formatPlace, type PolicyProblem } from "./policy-problem.ts";
import { POLICY_SCHEMA } from "./policy-schema.ts";
import { readPolicyText } from "./read-policy-text.ts";
import type { TrustPolicy } from "./trust-policy.ts";

/** What became of a policy's text. Warnings keep nothing from working. */
export type PolicyCheck =
  | {
      readonly kind: "valid";
      readonly policy: TrustPolicy;
      readonly warnings: readonly PolicyProblem[];
    }
  | { readonly kind: "invalid"; readonly problems: readonly PolicyProblem[] };

/**
 * Reads a trust policy, in YAML or JSON. All problems are listed with their places: first those of the
 * document's shape, such as unknown or repeated fields and bad names; in a document of the right shape, what
 * its rules say: ids that are none, names that lead nowhere, rules that contradict each other or never decide.
 */
export function parseTrustPolicy(text: string): PolicyCheck {
  const read = readPolicyText(text);
  if (read.kind === "unreadable") return { kind: "invalid", problems: read.problems };
  const parsed = v.safeParse(POLICY_SCHEMA, read.value);
  if (!parsed.success) return { kind: "invalid", problems: parsed.issues.map(toProblem) };
  const { problems, warnings } = checkPolicy(parsed.output);
  if (problems.length > 0) return { kind: "invalid", problems };
  return { kind: "valid", policy: compilePolicy(parsed.output), warnings };
}

function toProblem(issue: v.BaseIssue<unknown>): PolicyProblem {
  const path = (issue.path ?? []).map(({ key }) => (typeof key === "number" ? key : String(key)));
  const place = formatPlace(path);
  const field = String(path.at(-1) ?? "");
  if (issue.type === "strict_object" && issue.expected === "never") {
    const near = nearestWord(field, fieldsAt(POLICY_SCHEMA, path.slice(0, -1)));
    return {
      place,
      message: `${field} is no field here`,
      hint: near === undefined ? "Leave it out." : `Did you mean ${near}?`,
    };
  }
  if (issue.received === "undefined") {
    return { place, message: `${field} is missing`, hint: "Add it." };
  }
  if (issue.type === "strict_object" || issue.type === "record" || issue.type === "array") {
    const wanted = issue.type === "array" ? "a list" : "fields";
    return { place, message: `must hold ${wanted}`, hint: `Write ${wanted} below it.` };
  }
  return { place, message: issue.message, hint: suggest(issue.input) };
}

function suggest(input: unknown): string {
  const folded = typeof input === "string" ? input.normalize("NFKC").toLowerCase() : "";
  const name = folded.replace(/[ _]/g, "-");
  if (name !== input && /^[a-z0-9][a-z0-9-]*$/.test(name)) return `Write ${name}.`;
  return `Correct ${JSON.stringify(input)?.slice(0, 80) ?? "it"}.`;
}
