import { nearestWord } from "@glorious/core";

import { FORGE_VOCABULARY } from "./forge-vocabulary.ts";
import type { IssuerEntry, TrustedEntry } from "./policy-document.ts";
import type { PolicyReport } from "./policy-problem.ts";
import { matchesRefPattern } from "./ref-pattern.ts";

type Path = readonly (string | number)[];

/** Checks which jobs a rule trusts: patterns that cover all or nothing, events that strangers cause. */
export function checkTrusted(
  path: Path,
  entry: TrustedEntry,
  issuer: IssuerEntry,
  report: PolicyReport,
): void {
  const { refs = [], protected: isProtected, environments } = entry;
  if (refs.length === 0 && isProtected !== true) {
    report.problem(
      path,
      "trusts no ref",
      "Name refs, such as refs/heads/main, or leave trusted out.",
    );
  }
  for (const [index, pattern] of refs.entries()) {
    checkPattern(
      [...path, "refs", index],
      pattern,
      refs.slice(0, index),
      refs.slice(index + 1),
      report,
    );
  }
  checkEvents([...path, "events"], entry, issuer, report);
  if (issuer.kind === "oidc") {
    const { ref, branch, tag, refProtected, environment } = issuer.claims ?? {};
    const needs = [
      ["refs", refs.length > 0 && (ref ?? branch ?? tag) === undefined, "ref, branch or tag"],
      ["protected", isProtected === true && refProtected === undefined, "refProtected"],
      ["environments", environments !== undefined && environment === undefined, "environment"],
    ] as const;
    for (const [field, isUnfit, claim] of needs) {
      if (!isUnfit) continue;
      report.problem(
        [...path, field],
        "can never fit",
        `Say in the issuer's claims which holds ${claim}.`,
      );
    }
  } else if (isProtected === true && issuer.kind === "github") {
    report.warning(
      [...path, "protected"],
      "also counts a branch that any ruleset covers, such as one for all branches",
      "Name the refs if your rulesets do more than protect releases.",
    );
  }
}

function checkPattern(
  path: Path,
  pattern: string,
  before: readonly string[],
  after: readonly string[],
  report: PolicyReport,
): void {
  if (matchesRefPattern(pattern, "refs/heads/gh-readonly-queue/main/pr-1-0123")) {
    const isAll = matchesRefPattern(pattern, "refs/heads/any/branch");
    report.problem(
      path,
      isAll ? "covers every branch" : "covers branches of the merge queue, which have not landed",
      isAll ? "Write branchIsolation: false if you mean that." : "Use adoptMergeQueue: true.",
    );
    return;
  }
  if (pattern === "refs/heads/*") {
    report.warning(path, "covers every branch without a slash in its name", "Name the branches.");
  }
  // Read as a ref, a pattern's own stars are characters like others.
  const wider =
    before.find((other) => matchesRefPattern(other, pattern)) ??
    after.find((other) => other !== pattern && matchesRefPattern(other, pattern));
  if (wider !== undefined) {
    report.problem(path, `never decides: ${wider} covers it`, "Leave one of them out.");
  }
}

function checkEvents(
  path: Path,
  entry: TrustedEntry,
  issuer: IssuerEntry,
  report: PolicyReport,
): void {
  const { events = [] } = entry;
  if (issuer.kind === "oidc") {
    if (events.length > 0 && issuer.claims?.event === undefined) {
      report.problem(path, "can never fit", "Say in the issuer's claims which holds event.");
    }
    return;
  }
  const { defaultEvents = [], furtherEvents } = FORGE_VOCABULARY[issuer.kind];
  const allowed = [...defaultEvents, ...furtherEvents];
  for (const [index, event] of events.entries()) {
    if (allowed.includes(event)) {
      if (events.indexOf(event) === index) continue;
      report.problem([...path, index], `${event} stands there twice`, "Keep it once.");
      continue;
    }
    const near = nearestWord(event, allowed);
    report.problem(
      [...path, index],
      `${JSON.stringify(event)} is no event that can be trusted`,
      near === undefined ? `Use some of ${allowed.join(", ")}.` : `Did you mean ${near}?`,
    );
  }
}
