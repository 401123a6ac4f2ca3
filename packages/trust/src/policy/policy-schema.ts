import { isCacheError, parseDurationMs, parseSizeBytes } from "@glorious/core";
import * as v from "valibot";

import { IDENTITY_ALGORITHMS } from "../identity/identity-issuer.ts";
import { parseViewName } from "../view-name.ts";
import type { PolicyDocument } from "./policy-document.ts";

const WORD = /^[a-z0-9][a-z0-9-]{0,23}$/;

const text = v.pipe(v.string("must be text"), v.minLength(1, "must not be empty"));
const flag = v.boolean("must be true or false");
const id = v.union(
  [
    v.pipe(v.string(), v.regex(/^[\u0021-\u007e]{1,200}$/)),
    v.pipe(v.number(), v.safeInteger(), v.minValue(1), v.transform(String)),
  ],
  "must be an id: the forge's number, or the issuer's own text",
);
const isoDate = v.pipe(
  v.string("must be a date, such as 2026-11-20"),
  v.isoDate("must be a date, such as 2026-11-20"),
);
const sizeBytes = quantity("must be a size, such as 50 GiB", parseSizeBytes);
const seconds = quantity("must be a time with a unit, such as 7d", (given) =>
  Math.floor(parseDurationMs(given) / 1000),
);
const tenantName = word("tenant", 24);
const viewName = v.pipe(
  word("view", 12),
  v.check(
    (given) => !WORD.test(given) || isViewName(given),
    "is a reserved word and no view's name",
  ),
);
const fullViewName = v.pipe(
  v.string("must be text"),
  v.check(
    (given) => isViewName(given) && !given.includes("_"),
    "must be a view's full name: <view>, or <tenant>+<view>",
  ),
);
const refPattern = v.pipe(
  v.string("must be text"),
  v.regex(
    // oxlint-disable-next-line no-control-regex -- git forbids them
    /^refs\/(?:heads|tags)\/[^\u0000-\u0020\u007f~^:?[\\]+$/,
    "must be a full ref, such as refs/heads/main or refs/tags/v*",
  ),
);

const claimMapping = v.strictObject({
  repositoryId: text,
  repositoryName: v.optional(text),
  ownerId: v.optional(text),
  ownerName: v.optional(text),
  ref: v.optional(text),
  branch: v.optional(text),
  tag: v.optional(text),
  refProtected: v.optional(text),
  event: v.optional(text),
  pullRequest: v.optional(text),
  fork: v.optional(text),
  environment: v.optional(text),
  run: v.optional(text),
  attempt: v.optional(text),
  commit: v.optional(text),
  workflow: v.optional(text),
});

const issuer = v.strictObject({
  kind: v.picklist(
    ["github", "gitlab", "forgejo", "kubernetes", "oidc"],
    "must be github, gitlab, forgejo, kubernetes or oidc",
  ),
  issuer: text,
  jwksUri: v.optional(text),
  jwksFile: v.optional(text),
  algorithms: v.optional(
    v.pipe(
      v.array(v.picklist(IDENTITY_ALGORITHMS, `must be one of ${IDENTITY_ALGORITHMS.join(", ")}`)),
      v.minLength(1, "must name at least one algorithm"),
    ),
  ),
  claims: v.optional(claimMapping),
  neverForks: v.optional(flag),
  tokenLifetime: v.optional(seconds),
  maxIdentityLifetime: v.optional(seconds),
});

const namedTarget = v.strictObject({
  id: v.optional(id),
  name: v.optional(text),
  confirmed: v.optional(isoDate),
  reconfirmAfter: v.optional(seconds),
});
const idTarget = v.strictObject({ id, name: v.optional(text) });

const target = {
  issuer: text,
  repository: v.optional(namedTarget),
  repositories: v.optional(
    v.pipe(v.array(idTarget), v.minLength(1, "must name at least one repository")),
  ),
  organization: v.optional(namedTarget),
  group: v.optional(idTarget),
  enterprise: v.optional(idTarget),
  instance: v.optional(v.literal(true, "must be true, or left out")),
  serviceAccount: v.optional(
    v.strictObject({ namespace: text, name: text, uid: v.optional(text) }),
  ),
  namespace: v.optional(v.strictObject({ name: text })),
} as const;

const trusted = v.strictObject({
  refs: v.optional(v.array(refPattern)),
  protected: v.optional(flag),
  events: v.optional(v.pipe(v.array(text), v.minLength(1, "must name at least one event"))),
  environments: v.optional(
    v.pipe(v.array(text), v.minLength(1, "must name at least one environment")),
  ),
});

const scope = v.strictObject({
  ...target,
  view: v.optional(viewName),
  trusted: v.optional(trusted),
  untrusted: v.optional(v.picklist(["none", "read"], "must be none or read")),
  branchIsolation: v.optional(flag),
  adoptMergeQueue: v.optional(flag),
});

const view = v.strictObject({
  default: v.optional(flag),
  public: v.optional(flag),
  reads: v.optional(v.array(fullViewName)),
  contributes: v.optional(
    v.picklist(["agreed", "content-addressed"], "must be agreed or content-addressed"),
  ),
  quota: v.optional(sizeBytes),
  overlays: v.optional(
    v.strictObject({ quota: v.optional(sizeBytes), retention: v.optional(seconds) }),
  ),
});

const tenant = v.strictObject({
  parent: v.optional(tenantName),
  quotas: v.optional(
    v.strictObject({ trusted: v.optional(sizeBytes), overlay: v.optional(sizeBytes) }),
  ),
  views: v.record(viewName, view),
  scopes: v.optional(v.array(scope)),
});

const sharedView = v.strictObject({
  public: v.optional(flag),
  quota: v.optional(sizeBytes),
  writers: v.optional(
    v.pipe(
      v.array(v.strictObject({ ...target, trusted })),
      v.minLength(1, "must name a writer, as nobody else ever fills the view"),
    ),
  ),
  agreement: v.optional(
    v.strictObject({
      tenants: v.optional(
        v.pipe(
          v.number("must be a number"),
          v.integer("must be a whole number"),
          v.minValue(2, "must be at least 2: one tenant agrees with itself"),
        ),
      ),
    }),
  ),
});

/** Reads a policy document; names, ids, sizes and times are checked, what they refer to is not. */
export const POLICY_SCHEMA: v.GenericSchema<unknown, PolicyDocument> = v.strictObject({
  version: v.literal(1, "must be 1"),
  issuers: v.record(text, issuer),
  defaultTenant: v.optional(tenant),
  tenants: v.optional(v.record(tenantName, tenant)),
  sharedViews: v.optional(v.record(fullViewName, sharedView)),
});

/** The fields of every part of a document, by the headings of its reference page. */
export const POLICY_PARTS: Readonly<Record<string, readonly string[]>> = {
  Document: ["version", "issuers", "defaultTenant", "tenants", "sharedViews"],
  Issuer: Object.keys(issuer.entries),
  "Claim mapping": Object.keys(claimMapping.entries),
  Tenant: Object.keys(tenant.entries),
  View: Object.keys(view.entries),
  Scope: Object.keys(scope.entries),
  "Confirmed name": Object.keys(namedTarget.entries),
  Trusted: Object.keys(trusted.entries),
  "Shared view": Object.keys(sharedView.entries),
};

function word(what: string, maxLength: number): v.GenericSchema<string, string> {
  return v.pipe(
    v.string("must be text"),
    v.check(
      (given) => given.length <= maxLength && WORD.test(given),
      `is no ${what}'s name: it has 1 to ${maxLength} lowercase letters of a to z, digits and hyphens`,
    ),
  );
}

function isViewName(name: string): boolean {
  try {
    parseViewName(name);
    return true;
  } catch (error) {
    if (isCacheError(error)) return false;
    throw error;
  }
}

function quantity(
  message: string,
  parse: (text: string) => number,
): v.GenericSchema<unknown, number> {
  return v.pipe(
    v.unknown(),
    v.rawTransform(({ dataset, addIssue, NEVER }) => {
      const given = dataset.value;
      try {
        const parsed =
          typeof given === "string" || typeof given === "number" ? parse(String(given)) : 0;
        if (parsed > 0) return parsed;
      } catch (error) {
        if (!isCacheError(error)) throw error;
      }
      addIssue({ message });
      return NEVER;
    }),
  );
}
