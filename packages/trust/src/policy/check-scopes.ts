import { SPECIFICITY } from "../grant/match-scope.ts";
import { checkTarget } from "./check-target.ts";
import { checkTrusted } from "./check-trusted.ts";
import { compileTarget, type PlacedTenant, scopeView, tenantsOf } from "./compile-policy.ts";
import { FORGE_VOCABULARY } from "./forge-vocabulary.ts";
import type { IssuerEntry, PolicyDocument, ScopeEntry } from "./policy-document.ts";
import { formatPlace, type PolicyReport } from "./policy-problem.ts";
import type { ScopeTarget } from "./trust-policy.ts";

interface PlacedScope {
  readonly entry: ScopeEntry;
  readonly path: readonly (string | number)[];
  readonly target: ScopeTarget;
}

/** Checks every rule by itself, then that no two decide about the same job, and that each can decide. */
export function checkScopes(document: PolicyDocument, report: PolicyReport): void {
  const placed = tenantsOf(document).flatMap((tenant) =>
    (tenant.entry.scopes ?? []).flatMap((entry, index): PlacedScope[] => {
      const path = [...tenant.path, "scopes", index];
      const issuer = checkTarget(path, entry, document, report);
      if (issuer !== undefined) checkRule(path, entry, issuer, tenant, report);
      const target = compileTarget(entry);
      return target === undefined ? [] : [{ entry, path, target }];
    }),
  );
  checkRivals(placed, report);
  checkShadows(placed, report);
  for (const [name, { writers = [] }] of Object.entries(document.sharedViews ?? {})) {
    for (const [index, writer] of writers.entries()) {
      const path = ["sharedViews", name, "writers", index];
      const issuer = checkTarget(path, writer, document, report);
      if (issuer?.kind === "kubernetes") {
        report.problem(path, "a runner's own identity never writes", "Name a repository.");
      } else if (issuer !== undefined) {
        checkTrusted([...path, "trusted"], writer.trusted, issuer, report);
      }
    }
  }
}

function checkRule(
  path: readonly (string | number)[],
  entry: ScopeEntry,
  issuer: IssuerEntry,
  tenant: PlacedTenant,
  report: PolicyReport,
): void {
  const view = scopeView(tenant.entry, entry);
  const settings =
    view !== undefined && Object.hasOwn(tenant.entry.views, view)
      ? tenant.entry.views[view]
      : undefined;
  if (view === undefined) {
    report.problem([...path, "view"], "is missing", "Name one, or mark a view with default: true.");
  } else if (settings === undefined) {
    report.problem([...path, "view"], `${view} is no view of the tenant`, "Add it to views.");
  }
  if (issuer.kind === "kubernetes") {
    for (const field of ["trusted", "branchIsolation", "adoptMergeQueue"] as const) {
      if (entry[field] === undefined) continue;
      report.problem([...path, field], "never counts for a runner's own identity", "Leave it out.");
    }
    if (entry.untrusted !== "read" && settings?.public !== true) {
      report.problem([...path, "untrusted"], "the rule gives nothing", "Write untrusted: read.");
    }
    return;
  }
  if (entry.trusted !== undefined) {
    checkTrusted([...path, "trusted"], entry.trusted, issuer, report);
  } else if (entry.adoptMergeQueue === true) {
    report.problem(
      [...path, "adoptMergeQueue"],
      "adopts into nothing",
      "Say which refs are trusted.",
    );
  } else if (entry.branchIsolation !== false) {
    report.warning(path, "trusts no ref, so that nothing ever fills the view", "Add trusted.refs.");
  }
  if (entry.adoptMergeQueue === true && !FORGE_VOCABULARY[issuer.kind].hasMergeQueue) {
    report.problem(
      [...path, "adoptMergeQueue"],
      `${issuer.kind} has no merge queue`,
      "Leave it out.",
    );
  }
}

/** Two rules of one width about one job: which decides would be chance. */
function checkRivals(scopes: readonly PlacedScope[], report: PolicyReport): void {
  const seen = new Map<string, readonly (string | number)[]>();
  for (const { entry, path, target } of scopes) {
    for (const key of rivalKeys(target)) {
      const rival = seen.get(`${entry.issuer}\n${key}`);
      seen.set(`${entry.issuer}\n${key}`, rival ?? path);
      if (rival === undefined) continue;
      report.problem(
        path,
        `is as specific as ${formatPlace(rival)} about the same ${describeTarget(target)}`,
        "Keep one of them.",
      );
      break;
    }
  }
  for (const instance of scopes.filter(({ target }) => target.kind === "instance")) {
    const rival = scopes.find(
      ({ entry, target }) => entry.issuer === instance.entry.issuer && target.kind === "enterprise",
    );
    if (rival !== undefined) {
      report.problem(
        instance.path,
        `is as specific as ${formatPlace(rival.path)} about the same jobs`,
        "Keep the enterprise.",
      );
    }
  }
}

function rivalKeys(target: ScopeTarget): readonly string[] {
  const level = SPECIFICITY[target.kind];
  switch (target.kind) {
    case "repositories":
      return target.ids.map((id) => `${level} ${id}`);
    case "repository":
    case "organization":
    case "group":
    case "enterprise":
      return [`${level} ${target.id}`];
    case "repository-name":
    case "organization-name":
      // Forgejo does not tell names apart by case.
      return [`${level} name ${target.name.toLowerCase()}`];
    case "service-account":
      return [`${level} ${target.namespace}/${target.name}`];
    case "namespace":
      return [`${level} ${target.namespace}`];
    default:
      return [`${level}`];
  }
}

function describeTarget(target: ScopeTarget): string {
  return target.kind.replace("-name", "").replace("-", " ").replace("repositories", "repository");
}

/** A list whose repositories all have rules of their own never decides. */
function checkShadows(scopes: readonly PlacedScope[], report: PolicyReport): void {
  for (const { entry, path, target } of scopes) {
    if (target.kind !== "repositories") continue;
    const own = new Set(
      scopes.flatMap((other) =>
        other.entry.issuer === entry.issuer && other.target.kind === "repository"
          ? [other.target.id]
          : [],
      ),
    );
    const shadowed = target.ids.filter((id) => own.has(id));
    if (shadowed.length === target.ids.length) {
      report.problem(
        [...path, "repositories"],
        "never decides: each of them has a narrower rule of its own",
        "Leave this rule out, or those.",
      );
    } else if (shadowed.length > 0) {
      report.warning(
        [...path, "repositories"],
        `${shadowed.join(", ")} has a narrower rule of its own`,
        "Take it off the list.",
      );
    }
  }
}
