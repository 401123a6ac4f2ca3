import { checkIssuers } from "./check-issuers.ts";
import { checkScopes } from "./check-scopes.ts";
import { checkViews } from "./check-views.ts";
import type { PolicyDocument } from "./policy-document.ts";
import { formatPlace, type PolicyProblem, type PolicyReport } from "./policy-problem.ts";

/** What {@link checkPolicy} found. */
export interface PolicyFindings {
  readonly problems: readonly PolicyProblem[];
  readonly warnings: readonly PolicyProblem[];
}

/** Checks what a document of the right shape says: names that lead nowhere, rules that contradict. */
export function checkPolicy(document: PolicyDocument): PolicyFindings {
  const problems: PolicyProblem[] = [];
  const warnings: PolicyProblem[] = [];
  const report: PolicyReport = {
    problem: (path, message, hint) => problems.push({ place: formatPlace(path), message, hint }),
    warning: (path, message, hint) => warnings.push({ place: formatPlace(path), message, hint }),
  };
  checkIssuers(document, report);
  checkViews(document, report);
  checkScopes(document, report);
  return { problems, warnings };
}
