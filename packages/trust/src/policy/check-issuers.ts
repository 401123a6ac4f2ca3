import { tenantsOf } from "./compile-policy.ts";
import type { IssuerEntry, PolicyDocument } from "./policy-document.ts";
import type { PolicyReport } from "./policy-problem.ts";

const MIN_TOKEN_LIFETIME_SECONDS = 60;
const MAX_TOKEN_LIFETIME_SECONDS = 86_400;
const LOOPBACK = /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/** Checks a policy's issuers: addresses, what their kind needs, and that no two are the same. */
export function checkIssuers(document: PolicyDocument, report: PolicyReport): void {
  const seen = new Map<string, string>();
  const used = new Set([
    ...tenantsOf(document).flatMap(({ entry }) => (entry.scopes ?? []).map(({ issuer }) => issuer)),
    ...Object.values(document.sharedViews ?? {}).flatMap(({ writers = [] }) =>
      writers.map(({ issuer }) => issuer),
    ),
  ]);
  for (const [name, entry] of Object.entries(document.issuers)) {
    const path = ["issuers", name];
    checkAddress([...path, "issuer"], entry.issuer, report);
    if (entry.jwksUri !== undefined) checkAddress([...path, "jwksUri"], entry.jwksUri, report);
    checkKind(path, entry, report);
    checkLifetimes(path, entry, report);
    const folded = entry.issuer.normalize("NFKC").toLowerCase().replace(/\/+$/, "");
    const twin = seen.get(folded);
    if (twin !== undefined) {
      report.problem(
        [...path, "issuer"],
        `is the same as issuers.${twin}.issuer`,
        "Keep one of them.",
      );
    }
    seen.set(folded, name);
    if (!used.has(name)) {
      report.warning(path, "is used by no rule", "Add a scope for it, or leave it out.");
    }
  }
}

function checkAddress(path: readonly string[], address: string, report: PolicyReport): void {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  const isSafe =
    url?.protocol === "https:" || (url?.protocol === "http:" && LOOPBACK.test(url.hostname));
  if (!isSafe) {
    report.problem(
      path,
      "must be an https address; http is for this machine only",
      "Copy it from the issuer's discovery document.",
    );
  } else if (/[?#]/.test(address) || url.username !== "" || url.password !== "") {
    report.problem(path, "must be a plain address without query or login", "Leave that out.");
  }
}

function checkKind(path: readonly string[], entry: IssuerEntry, report: PolicyReport): void {
  if (entry.jwksUri !== undefined && entry.jwksFile !== undefined) {
    report.problem([...path, "jwksFile"], "stands beside jwksUri", "Keep one of them.");
  }
  if (entry.kind !== "oidc") {
    for (const field of ["claims", "neverForks"] as const) {
      if (entry[field] === undefined) continue;
      report.problem(
        [...path, field],
        "is for the kind oidc only",
        `Leave it out: the claims of ${entry.kind} are known.`,
      );
    }
    return;
  }
  if (entry.claims === undefined) {
    report.problem([...path, "claims"], "is missing", "Name at least claims.repositoryId.");
    return;
  }
  const { ref, branch, tag, fork } = entry.claims;
  if (ref !== undefined && (branch ?? tag) !== undefined) {
    report.problem(
      [...path, "claims", "ref"],
      "stands beside branch or tag",
      "Keep the one or the others.",
    );
  }
  if (fork === undefined && entry.neverForks !== true) {
    report.warning(
      path,
      "does not tell forks, so that all its jobs count as untrusted",
      "Name claims.fork, or write neverForks: true if it gives no token to a fork's code.",
    );
  }
}

function checkLifetimes(path: readonly string[], entry: IssuerEntry, report: PolicyReport): void {
  const { tokenLifetime } = entry;
  if (
    tokenLifetime !== undefined &&
    (tokenLifetime < MIN_TOKEN_LIFETIME_SECONDS || tokenLifetime > MAX_TOKEN_LIFETIME_SECONDS)
  ) {
    report.problem(
      [...path, "tokenLifetime"],
      "must be from 1m to 24h",
      "Write 1h: a job that takes longer exchanges again.",
    );
  }
}
