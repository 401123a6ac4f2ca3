import { formatViewName } from "../view-name.ts";
import { type PlacedTenant, scopeView, tenantsOf } from "./compile-policy.ts";
import type { PolicyDocument } from "./policy-document.ts";
import type { PolicyReport } from "./policy-problem.ts";

/** Checks tenants, their views, and the shared views between them. */
export function checkViews(document: PolicyDocument, report: PolicyReport): void {
  const tenants = tenantsOf(document);
  const shared = new Set(Object.keys(document.sharedViews ?? {}));
  if (tenants.length === 0) {
    report.problem(["tenants"], "is missing", "Add a tenant, or a defaultTenant.");
  }
  for (const tenant of tenants) {
    checkParent(document, tenant, report);
    checkOwnViews(tenant, shared, report);
  }
  checkSharedViews(tenants, shared, report);
  checkCommons(document, tenants, report);
}

/** A shared view is filled by writers, or by what tenants agree on; one view at most by the latter. */
function checkCommons(
  document: PolicyDocument,
  tenants: readonly PlacedTenant[],
  report: PolicyReport,
): void {
  const shared = Object.entries(document.sharedViews ?? {});
  for (const [name, { writers, agreement }] of shared) {
    if ((writers === undefined) === (agreement === undefined)) {
      const message =
        writers === undefined ? "has neither writers nor an agreement" : "has writers, too";
      const hint = "Name writers for a view that jobs fill, agreement: {} for the commons.";
      const at = writers === undefined ? [] : ["agreement"];
      report.problem(["sharedViews", name, ...at], message, hint);
    }
  }
  const [commons, second] = shared.filter(([, { agreement }]) => agreement !== undefined);
  if (commons === undefined) {
    forEachContributor(tenants, (path) =>
      report.problem(
        [...path, "contributes"],
        "has no commons to contribute to",
        "Add a shared view with agreement: {}, or leave it out.",
      ),
    );
    return;
  }
  if (second !== undefined) {
    report.problem(["sharedViews", second[0], "agreement"], "is the second commons", "Keep one.");
  }
  const contributors = new Set<string | undefined>();
  // Those below one parent are one voice.
  forEachContributor(tenants, (_, { name, entry }) => contributors.add(entry.parent ?? name));
  const needed = commons[1].agreement?.tenants ?? 2;
  if (contributors.size < needed) {
    report.warning(
      ["sharedViews", commons[0], "agreement"],
      `needs ${needed} tenants, and views of ${contributors.size} contribute`,
      "Set contributes: agreed in a view of each tenant that takes part.",
    );
  }
}

function forEachContributor(
  tenants: readonly PlacedTenant[],
  visit: (path: readonly string[], tenant: PlacedTenant) => void,
): void {
  for (const tenant of tenants) {
    for (const [view, { contributes }] of Object.entries(tenant.entry.views)) {
      if (contributes !== undefined) visit([...tenant.path, "views", view], tenant);
    }
  }
}

function checkParent(document: PolicyDocument, tenant: PlacedTenant, report: PolicyReport): void {
  const { parent } = tenant.entry;
  if (parent === undefined) return;
  const path = [...tenant.path, "parent"];
  const above = Object.hasOwn(document.tenants ?? {}, parent)
    ? document.tenants?.[parent]
    : undefined;
  if (above === undefined) {
    report.problem(path, `${parent} is no tenant of this policy`, "Add it to tenants.");
  } else if (parent === tenant.name) {
    report.problem(path, "is the tenant itself", "Leave it out.");
  } else if (above.parent !== undefined) {
    report.problem(path, `${parent} has a parent itself`, `Name ${above.parent} instead.`);
  }
}

function checkOwnViews(
  tenant: PlacedTenant,
  shared: ReadonlySet<string>,
  report: PolicyReport,
): void {
  const path = [...tenant.path, "views"];
  const views = Object.entries(tenant.entry.views);
  const isEnterprise = views.length === 0 && (tenant.entry.scopes ?? []).length === 0;
  if (views.length === 0 && !isEnterprise) {
    report.problem(path, "is empty", "Add a view, such as main: {}.");
  }
  const [, second] = views.filter(([, view]) => view.default === true);
  if (second !== undefined) {
    report.problem([...path, second[0], "default"], "is the second default", "Keep one.");
  }
  const written = new Set(
    (tenant.entry.scopes ?? []).map((scope) => scopeView(tenant.entry, scope)),
  );
  for (const [view, { reads = [] }] of views) {
    for (const [index, name] of reads.entries()) {
      const here = [...path, view, "reads", index];
      if (!shared.has(name)) {
        report.problem(
          here,
          `${name} is no shared view`,
          "Add it to sharedViews, or leave it out.",
        );
      } else if (reads.indexOf(name) !== index) {
        report.problem(here, `${name} stands there twice`, "Keep it once.");
      }
    }
    if (!written.has(view)) {
      report.warning([...path, view], "is no rule's view", "Name it as the view of a scope.");
    }
  }
}

function checkSharedViews(
  tenants: readonly PlacedTenant[],
  shared: ReadonlySet<string>,
  report: PolicyReport,
): void {
  const own = new Map(
    tenants.flatMap(({ name: tenant, entry, path }) =>
      Object.keys(entry.views).map((view) => [
        formatViewName({ tenant, view }),
        [...path, "views", view],
      ]),
    ),
  );
  const read = new Set(
    tenants.flatMap(({ entry }) => Object.values(entry.views).flatMap(({ reads = [] }) => reads)),
  );
  for (const name of shared) {
    const path = ["sharedViews", name];
    const tenant = name.includes("+") ? name.slice(0, name.indexOf("+")) : undefined;
    if (own.has(name)) {
      report.problem(path, "is a tenant's own view too", "Give the shared view another name.");
    } else if (tenant !== undefined && !tenants.some((candidate) => candidate.name === tenant)) {
      report.problem(
        path,
        `${tenant} is no tenant of this policy`,
        "Add it, or leave it out of the name.",
      );
    }
    if (!read.has(name)) {
      report.warning(path, "is read by no view", "Name it in the reads of a tenant's view.");
    }
  }
}
