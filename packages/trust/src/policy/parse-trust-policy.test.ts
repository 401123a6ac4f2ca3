import fc from "fast-check";
import { expect, test } from "vitest";

import { parseTrustPolicy } from "./parse-trust-policy.ts";
import { policyIssuers, quotasOf, type TrustPolicy, viewSettingsOf } from "./trust-policy.ts";

const GOOD = `
version: 1
issuers:
  github: { kind: github, issuer: "https://token.actions.githubusercontent.com", tokenLifetime: 30m }
  gitlab: { kind: gitlab, issuer: "https://gitlab.example.com" }
  forge: { kind: forgejo, issuer: "https://forge.example.org/api/actions" }
  cluster: { kind: kubernetes, issuer: "https://kubernetes.default.svc", jwksFile: /etc/jwks.json }
  buildkite:
    kind: oidc
    issuer: https://agent.buildkite.com
    claims: { repositoryId: pipeline_id, ownerId: organization_id, branch: build_branch }
    neverForks: true
defaultTenant:
  views: { main: { public: true } }
  scopes: [{ issuer: cluster, namespace: { name: gf-default } }]
tenants:
  corp: { quotas: { trusted: 2 TiB, overlay: 100 GiB }, views: {} }
  acme:
    parent: corp
    views:
      main: { default: true, reads: [shared], quota: 200 GiB, overlays: { quota: 5 GiB, retention: 3d } }
      release: {}
    scopes:
      - { issuer: github, organization: { id: 123, name: acme }, trusted: { refs: [refs/heads/main] } }
      - issuer: github
        repository: { id: "456", name: acme/app }
        view: release
        trusted: { refs: [refs/heads/main, "refs/tags/v*"], events: [push, release] }
        adoptMergeQueue: true
      - { issuer: gitlab, group: { id: 7 }, trusted: { protected: true } }
      - issuer: forge
        organization: { name: acme, confirmed: "2026-11-20" }
        trusted: { refs: [refs/heads/main] }
      - { issuer: cluster, serviceAccount: { namespace: gf-acme, name: nix }, untrusted: read }
      - { issuer: buildkite, repository: { id: 0190-ab }, trusted: { refs: [refs/heads/main] } }
sharedViews:
  shared:
    writers: [{ issuer: github, repository: { id: 9 }, trusted: { refs: [refs/heads/main] } }]
`;

function problems(text: string): string[] {
  const check = parseTrustPolicy(text);
  if (check.kind === "valid") return [];
  return check.problems.map(({ place, message, hint }) => `${place}: ${message}. ${hint}`);
}

/** The good policy with one text in it replaced. */
function change(from: string | RegExp, to: string): string {
  const changed = GOOD.replace(from, to);
  expect(changed).not.toBe(GOOD);
  return changed;
}

function requirePolicy(text: string): TrustPolicy {
  const check = parseTrustPolicy(text);
  if (check.kind === "invalid") throw new Error(JSON.stringify(check.problems, null, 1));
  return check.policy;
}

test("a good policy is read without a warning", () => {
  expect(problems(GOOD)).toEqual([]);
  expect(parseTrustPolicy(GOOD)).toMatchObject({ kind: "valid", warnings: [] });
});

test("the same policy as JSON is the same policy", () => {
  const json = JSON.stringify({
    version: 1,
    issuers: { f: { kind: "forgejo", issuer: "https://forge.example.org/api/actions" } },
    tenants: {
      acme: {
        views: { main: {} },
        scopes: [{ issuer: "f", repository: { id: "5" }, trusted: { refs: ["refs/heads/main"] } }],
      },
    },
  });
  expect(requirePolicy(json).scopes).toMatchObject([
    { rule: "tenants.acme.scopes[0]", view: "acme+main", target: { kind: "repository", id: "5" } },
  ]);
});

test("sizes, times and defaults are read", () => {
  const policy = requirePolicy(GOOD);
  expect(
    policyIssuers(policy).map(({ name, tokenLifetimeSeconds }) => [name, tokenLifetimeSeconds]),
  ).toEqual([
    ["github", 1800],
    ["gitlab", 3600],
    ["forge", 3600],
    ["cluster", 3600],
    ["buildkite", 3600],
  ]);
  expect(viewSettingsOf(policy, "acme+main")).toMatchObject({
    tenant: "acme",
    quotaBytes: 200 * 2 ** 30,
    reads: ["shared"],
    isPublic: false,
    overlayOf: undefined,
  });
  expect(viewSettingsOf(policy, "acme+main_pr-7")).toMatchObject({
    name: "acme+main_pr-7",
    quotaBytes: 5 * 2 ** 30,
    retentionSeconds: 3 * 86_400,
    overlayOf: "acme+main",
    reads: ["shared"],
  });
  expect(viewSettingsOf(policy, "acme+release_ref-01234567")).toMatchObject({
    quotaBytes: undefined,
    retentionSeconds: undefined,
  });
});

test("an overlay of a public view is not public", () => {
  expect(viewSettingsOf(requirePolicy(GOOD), "main")).toMatchObject({ isPublic: true });
  expect(viewSettingsOf(requirePolicy(GOOD), "main_pr-1")).toMatchObject({ isPublic: false });
});

test("a view that the policy does not name has no settings", () => {
  const policy = requirePolicy(GOOD);
  for (const name of [
    "other",
    "acme+other",
    "acme+other_pr-1",
    "corp+main",
    "no name",
    "toString",
  ]) {
    expect(viewSettingsOf(policy, name)).toBeUndefined();
  }
});

test("a tenant's quotas are followed by its parent's", () => {
  const policy = requirePolicy(GOOD);
  expect(quotasOf(policy, "acme")).toMatchObject([
    { name: "acme", trustedQuotaBytes: undefined },
    { name: "corp", trustedQuotaBytes: 2 * 2 ** 40, overlayQuotaBytes: 100 * 2 ** 30 },
  ]);
  expect(quotasOf(policy, undefined)).toMatchObject([{ name: undefined }]);
  expect(quotasOf(policy, "other")).toEqual([]);
});

test.each([
  ["", /^: must hold fields/],
  ["[]", /^version: version is missing/],
  ["version: 1", /^issuers: issuers is missing/],
  ["{", /^line 1, column \d+: /],
  [GOOD.replace("version: 1", "version: 2"), /^version: must be 1/],
  [`${GOOD}\nversion: 1`, /^line \d+, column 1: Map keys must be unique/],
  [`${GOOD}\nmore: 1`, /^more: more is no field here/],
  [
    GOOD.replace("views: { main: { public: true } }", "view: {}"),
    /defaultTenant\.view: view is no field here\. Did you mean views\?/,
  ],
  [`${GOOD}\n? constructor\n: {}`, /^constructor: constructor cannot be a name/],
  [GOOD.replace("  corp:", "  __proto__:"), /^tenants\.__proto__: __proto__ cannot be a name/],
])("a document %# of a wrong shape is refused with its place", (text, expected) => {
  expect(problems(text).join("\n")).toMatch(expected);
});

test.each([
  [
    "  acme:\n",
    "  Acme:\n",
    "tenants.Acme: is no tenant's name: it has 1 to 24 lowercase letters of a to z, digits and hyphens. Write acme.",
  ],
  [
    "  acme:\n",
    "  ａcme:\n",
    'tenants["ａcme"]: is no tenant\'s name: it has 1 to 24 lowercase letters of a to z, digits and hyphens. Write acme.',
  ],
  ["  acme:\n", "  аcme:\n", /^tenants\["аcme"\]: is no tenant's name/],
  ["  acme:\n", "  -acme:\n", /^tenants\["-acme"\]: is no tenant's name/],
  [
    "main: { public: true }",
    "metrics: {}",
    'defaultTenant.views.metrics: is a reserved word and no view\'s name. Correct "metrics".',
  ],
  ["main: { public: true }", "a-view-too-long: {}", /is no view's name/],
  ["main: { public: true }", "main_pr-1: {}", /is no view's name/],
  ["kind: gitlab", "kind: bitbucket", /^issuers\.gitlab\.kind: must be github, gitlab/],
  [
    "https://gitlab.example.com",
    "http://gitlab.example.com",
    /^issuers\.gitlab\.issuer: must be an https address/,
  ],
  [
    "https://gitlab.example.com",
    "gitlab.example.com",
    /^issuers\.gitlab\.issuer: must be an https address/,
  ],
  ["https://gitlab.example.com", "https://u:p@gitlab.example.com", /without query or login/],
  ["https://gitlab.example.com", "https://gitlab.example.com/?x", /without query or login/],
  [
    "https://gitlab.example.com",
    "https://token.actions.githubusercontent.com/",
    /^issuers\.gitlab\.issuer: is the same as issuers\.github\.issuer/,
  ],
  [
    "https://gitlab.example.com",
    "https://TOKEN.actions.githubusercontent.com",
    /is the same as issuers\.github\.issuer/,
  ],
  [
    "tokenLifetime: 30m",
    "tokenLifetime: 30",
    /^issuers\.github\.tokenLifetime: must be a time with a unit/,
  ],
  [
    "tokenLifetime: 30m",
    "tokenLifetime: 2d",
    /^issuers\.github\.tokenLifetime: must be from 1m to 24h/,
  ],
  [
    "tokenLifetime: 30m",
    "algorithms: [HS256]",
    /^issuers\.github\.algorithms\[0\]: must be one of RS256/,
  ],
  ["tokenLifetime: 30m", "algorithms: [none]", /^issuers\.github\.algorithms\[0\]: must be one of/],
  [
    "tokenLifetime: 30m",
    "neverForks: true",
    /^issuers\.github\.neverForks: is for the kind oidc only/,
  ],
  [
    "jwksFile: /etc/jwks.json",
    'jwksFile: /a, jwksUri: "https://a/b"',
    /^issuers\.cluster\.jwksFile: stands beside jwksUri/,
  ],
  [/claims: .*\n/, "\n", /^issuers\.buildkite\.claims: is missing/],
  [
    "branch: build_branch",
    "branch: build_branch, ref: x",
    /^issuers\.buildkite\.claims\.ref: stands beside branch or tag/,
  ],
  [
    "parent: corp",
    "parent: nobody",
    "tenants.acme.parent: nobody is no tenant of this policy. Add it to tenants.",
  ],
  ["parent: corp", "parent: acme", /^tenants\.acme\.parent: is the tenant itself/],
  [
    "overlay: 100 GiB }",
    "overlay: 100 GiB }, parent: acme",
    /^tenants\.corp\.parent: acme has a parent itself/,
  ],
  ["200 GiB", "200 G", /^tenants\.acme\.views\.main\.quota: must be a size/],
  ["200 GiB", "0", /^tenants\.acme\.views\.main\.quota: must be a size/],
  ["retention: 3d", "retention: 3", /overlays\.retention: must be a time with a unit/],
  [
    "release: {}",
    "release: { default: true }",
    /^tenants\.acme\.views\.release\.default: is the second default/,
  ],
  [
    "reads: [shared]",
    "reads: [other]",
    /^tenants\.acme\.views\.main\.reads\[0\]: other is no shared view/,
  ],
  ["reads: [shared]", "reads: [shared, shared]", /reads\[1\]: shared stands there twice/],
  [
    "view: release",
    "view: nightly",
    /^tenants\.acme\.scopes\[1\]\.view: nightly is no view of the tenant/,
  ],
  ["default: true, ", "", /^tenants\.acme\.scopes\[0\]\.view: is missing/],
  ["  shared:\n", "  acme+main:\n", /^sharedViews\["acme\+main"\]: is a tenant's own view too/],
  ["  shared:\n", "  nobody+shared:\n", /^sharedViews\["nobody\+shared"\]: nobody is no tenant/],
  ["  shared:\n", "  shared_pr-1:\n", /must be a view's full name/],
  [
    "organization: { id: 123, name: acme }",
    "organisation: { id: 123 }",
    /^tenants\.acme\.scopes\[0\]\.organisation: organisation is no field here\. Did you mean organization\?/,
  ],
  [
    "organization: { id: 123, name: acme }",
    "organization: { id: 123, name: acme }, forks: read",
    /^tenants\.acme\.scopes\[0\]\.forks: forks is no field here\. Leave it out\.$/m,
  ],
  // What it looks like is a field of the issuer's claims, of a tenant, of a target.
  [
    "organization: { id: 123, name: acme }",
    "organization: { id: 123, name: acme }, fork: read",
    /scopes\[0\]\.fork: fork is no field here\. Leave it out\.$/m,
  ],
  [
    "organization: { id: 123, name: acme }",
    "organization: { id: 123, name: acme }, quotas: {}",
    /scopes\[0\]\.quotas: quotas is no field here\. Leave it out\.$/m,
  ],
  [
    "organization: { id: 123, name: acme }",
    "organization: { id: 123, nam: acme }",
    /scopes\[0\]\.organization\.nam: nam is no field here\. Did you mean name\?$/m,
  ],
  [
    "issuer: gitlab, group",
    "issuer: gitlap, group",
    /^tenants\.acme\.scopes\[2\]\.issuer: gitlap is no issuer of this policy/,
  ],
  ["issuer: gitlab, group", "issuer: toString, group", /toString is no issuer of this policy/],
  [
    "group: { id: 7 }",
    "organization: { id: 7 }",
    /^tenants\.acme\.scopes\[2\]\.organization: gitlab knows no such thing/,
  ],
  ["group: { id: 7 }, ", "", /^tenants\.acme\.scopes\[2\]: does not say whom it is about/],
  [
    "group: { id: 7 }",
    "group: { id: 7 }, repository: { id: 8 }",
    /^tenants\.acme\.scopes\[2\]: is about repository and group at once/,
  ],
  [
    "group: { id: 7 }",
    "group: { id: acme }",
    /^tenants\.acme\.scopes\[2\]\.group\.id: "acme" is no id of gitlab/,
  ],
  [
    "group: { id: 7 }",
    "group: { id: 7.5 }",
    /^tenants\.acme\.scopes\[2\]\.group\.id: must be an id/,
  ],
  ["group: { id: 7 }", "group: { id: 0 }", /group\.id: must be an id/],
  ["group: { id: 7 }", "group: { id: 9007199254740993 }", /group\.id: must be an id/],
  [
    "group: { id: 7 }",
    "group: { name: acme }",
    /^tenants\.acme\.scopes\[2\]\.group\.id: id is missing/,
  ],
  [
    "organization: { id: 123, name: acme }",
    "organization: { name: acme }",
    /^tenants\.acme\.scopes\[0\]\.organization\.id: is missing/,
  ],
  [
    "organization: { id: 123, name: acme }",
    "instance: true",
    /^tenants\.acme\.scopes\[0\]\.instance: would let in every repository/,
  ],
  [
    ', confirmed: "2026-11-20"',
    "",
    /^tenants\.acme\.scopes\[3\]\.organization\.confirmed: is missing: a name alone can be registered anew/,
  ],
  ['confirmed: "2026-11-20"', "confirmed: today", /confirmed: must be a date/],
  [
    '{ name: acme, confirmed: "2026-11-20" }',
    '{ id: 3, confirmed: "2026-11-20" }',
    /confirmed: is for rules without an id/,
  ],
  [
    "{ name: acme, confirmed",
    "{ name: acme/app, confirmed",
    /organization\.name: "acme\/app" is no name of Forgejo's/,
  ],
  [
    "untrusted: read }",
    "untrusted: write }",
    /^tenants\.acme\.scopes\[4\]\.untrusted: must be none or read/,
  ],
  [", untrusted: read }", " }", /^tenants\.acme\.scopes\[4\]\.untrusted: the rule gives nothing/],
  [
    "untrusted: read }",
    "untrusted: read, trusted: { refs: [refs/heads/main] } }",
    /^tenants\.acme\.scopes\[4\]\.trusted: never counts/,
  ],
  ['"refs/tags/v*"', "main", /^tenants\.acme\.scopes\[1\]\.trusted\.refs\[1\]: must be a full ref/],
  ['"refs/tags/v*"', "refs/pull/*", /refs\[1\]: must be a full ref/],
  [
    '"refs/tags/v*"',
    '"refs/heads/**"',
    /refs\[1\]: covers every branch\. Write branchIsolation: false/,
  ],
  [
    '"refs/tags/v*"',
    '"refs/heads/gh-readonly-queue/**"',
    /refs\[1\]: covers branches of the merge queue/,
  ],
  ['"refs/tags/v*"', "refs/heads/main", /refs\[1\]: never decides: refs\/heads\/main covers it/],
  ['"refs/tags/v*"', '"refs/heads/m*"', /refs\[0\]: never decides: refs\/heads\/m\* covers it/],
  [
    '{ refs: [refs/heads/main, "refs/tags/v*"], events: [push, release] }',
    "{ events: [push] }",
    /^tenants\.acme\.scopes\[1\]\.trusted: trusts no ref/,
  ],
  [
    "[push, release]",
    "[push, pull_request_target]",
    /events\[1\]: "pull_request_target" is no event that can be trusted/,
  ],
  [
    "[push, release]",
    "[issue_comment]",
    /events\[0\]: "issue_comment" is no event that can be trusted/,
  ],
  [
    "[push, release]",
    "[workflow_run]",
    /events\[0\]: "workflow_run" is no event that can be trusted/,
  ],
  [
    "[push, release]",
    "[merge_group]",
    /events\[0\]: "merge_group" is no event that can be trusted/,
  ],
  ["[push, release]", "[pusj]", /Did you mean push\?/],
  ["[push, release]", "[push, push]", /events\[1\]: push stands there twice/],
  ["[push, release]", "[]", /must name at least one event/],
  ["branch: build_branch", "tag: build_tag", []],
  [", branch: build_branch", "", /^tenants\.acme\.scopes\[5\]\.trusted\.refs: can never fit/],
  [
    "{ id: 0190-ab }, trusted: {",
    "{ id: 0190-ab }, trusted: { events: [push],",
    /scopes\[5\]\.trusted\.events: can never fit/,
  ],
  [
    "{ id: 0190-ab }, trusted: {",
    "{ id: 0190-ab }, trusted: { environments: [prod],",
    /scopes\[5\]\.trusted\.environments: can never fit/,
  ],
  [
    "{ id: 0190-ab }, trusted: {",
    "{ id: 0190-ab }, trusted: { protected: true,",
    /scopes\[5\]\.trusted\.protected: can never fit/,
  ],
  ['repository: { id: "456", name: acme/app }', "repository: { id: 9 }", []],
  [
    "group: { id: 7 }, trusted: { protected: true }",
    "group: { id: 7 }, adoptMergeQueue: true",
    /scopes\[2\]\.adoptMergeQueue: adopts into nothing/,
  ],
  [
    'confirmed: "2026-11-20" }\n',
    'confirmed: "2026-11-20" }\n        adoptMergeQueue: true\n',
    /scopes\[3\]\.adoptMergeQueue: forgejo has no merge queue/,
  ],
  [
    "writers: [{ issuer: github, repository: { id: 9 }",
    "writers: [{ issuer: cluster, namespace: { name: a }",
    /^sharedViews\.shared\.writers\[0\]: a runner's own identity never writes/,
  ],
  [/writers: .*/, "writers: []", /writers: must name a writer/],
  [/writers: .*/, "agreement: {}", []],
  [/writers: .*/, "agreement: { tenants: 1 }", /agreement\.tenants: must be at least 2/],
  [/writers: .*/, "quota: 1 GiB", /^sharedViews\.shared: has neither writers nor an agreement/],
  ["    writers: [", "    agreement: {}\n    writers: [", /agreement: has writers, too/],
])("%j changed to %j is refused with its place, or accepted", (from, to, expected) => {
  const found = problems(change(from, to));
  if (Array.isArray(expected)) expect(found).toEqual(expected);
  else if (typeof expected === "string") expect(found).toEqual([expected]);
  else expect(found).toEqual(expect.arrayContaining([expect.stringMatching(expected)]));
});

const CONTRIBUTORS = `
version: 1
issuers: { github: { kind: github, issuer: "https://ghes.example.com/_services/token" } }
tenants:
  a:
    views: { main: { contributes: agreed, reads: [commons] } }
    scopes: [{ issuer: github, organization: { id: 1 }, trusted: { refs: [refs/heads/main] } }]
  b:
    views: { main: { contributes: content-addressed } }
    scopes: [{ issuer: github, organization: { id: 2 }, trusted: { refs: [refs/heads/main] } }]
sharedViews: { commons: { agreement: {} } }
`;

test("views contribute to the commons, which two tenants fill by agreeing", () => {
  expect(parseTrustPolicy(CONTRIBUTORS)).toMatchObject({ kind: "valid", warnings: [] });
  const { views } = requirePolicy(CONTRIBUTORS);
  expect(views.get("a+main")).toMatchObject({ contributes: "agreed", agreement: undefined });
  expect(views.get("b+main")).toMatchObject({ contributes: "content-addressed" });
  expect(views.get("commons")).toMatchObject({ agreement: { tenants: 2 }, writers: [] });
});

test.each([
  [", reads: [commons]", "", /^sharedViews\.commons: is read by no view/],
  ["contributes: content-addressed", "", /commons\.agreement: needs 2 tenants, and views of 1/],
  ["  b:\n", "  b:\n    parent: a\n", /commons\.agreement: needs 2 tenants, and views of 1/],
])("a commons that serves nobody is warned of: %j", (from, to, expected) => {
  const check = parseTrustPolicy(CONTRIBUTORS.replace(from, to));
  const warnings = check.kind === "valid" ? check.warnings : [];
  expect(warnings.map(({ place, message }) => `${place}: ${message}`)).toContainEqual(
    expect.stringMatching(expected),
  );
});

test.each([
  [
    "{ commons: { agreement: {} } }",
    "{ commons: { agreement: {} }, more: { agreement: {} } }",
    /^sharedViews\.more\.agreement: is the second commons/,
  ],
  ["contributes: agreed", "contributes: all", /contributes: must be agreed or content-addressed/],
  [
    "agreement: {}",
    "writers: [{ issuer: github, repository: { id: 9 }, trusted: { refs: [refs/heads/main] } }]",
    /^tenants\.a\.views\.main\.contributes: has no commons/,
  ],
])("a commons that %j changed to %j makes senseless is refused", (from, to, expected) => {
  expect(problems(CONTRIBUTORS.replace(from, to))).toContainEqual(expect.stringMatching(expected));
});

const BASE = `
version: 1
issuers: { github: { kind: github, issuer: "https://ghes.example.com/_services/token" } }
tenants:
  a: { views: { main: {} }, scopes: [A] }
  b: { views: { main: {} }, scopes: [B] }
`;

function twoScopes(a: string, b: string): string {
  const scope = (target: string) =>
    `{ issuer: github, ${target}, trusted: { refs: [refs/heads/main] } }`;
  return BASE.replace("[A]", `[${scope(a)}]`).replace("[B]", `[${scope(b)}]`);
}

test.each([
  ["repository: { id: 1 }", "repository: { id: 1, name: x }", "the same repository"],
  [
    "repositories: [{ id: 1 }, { id: 2 }]",
    "repositories: [{ id: 2 }, { id: 3 }]",
    "the same repository",
  ],
  ["organization: { id: 1 }", "organization: { id: 1 }", "the same organization"],
  ["enterprise: { id: 1 }", "enterprise: { id: 1 }", "the same enterprise"],
  ["instance: true", "instance: true", "the same instance"],
])("%s and %s in two tenants are equally specific", (a, b, about) => {
  expect(problems(twoScopes(a, b))).toEqual([
    `tenants.b.scopes[0]: is as specific as tenants.a.scopes[0] about ${about}. Keep one of them.`,
  ]);
});

test("an enterprise and the whole instance are equally specific", () => {
  expect(problems(twoScopes("enterprise: { id: 1 }", "instance: true"))[0]).toMatch(
    /^tenants\.b\.scopes\[0\]: is as specific as tenants\.a\.scopes\[0\] about the same jobs/,
  );
});

test.each([
  ["repository: { id: 1 }", "repositories: [{ id: 1 }, { id: 2 }]"],
  ["repository: { id: 1 }", "organization: { id: 1 }"],
  ["organization: { id: 1 }", "enterprise: { id: 1 }"],
  ["organization: { id: 1 }", "instance: true"],
  ["repository: { id: 1 }", "repository: { id: 2 }"],
])("%s and %s may stand side by side", (a, b) => {
  expect(problems(twoScopes(a, b))).toEqual([]);
});

test("a list whose repositories all have rules of their own is unreachable", () => {
  expect(problems(twoScopes("repository: { id: 1 }", "repositories: [{ id: 1 }]"))).toEqual([
    "tenants.b.scopes[0].repositories: never decides: each of them has a narrower rule of its own. Leave this rule out, or those.",
  ]);
});

test("Forgejo's names are the same in every case", () => {
  const scope = (name: string) =>
    `{ issuer: f, organization: { name: ${name}, confirmed: "2026-01-01" }, trusted: { refs: [refs/heads/main] } }`;
  const text = BASE.replace(
    /github.*\}/,
    'f: { kind: forgejo, issuer: "https://f.example/api/actions" } }',
  )
    .replace("[A]", `[${scope("Acme")}]`)
    .replace("[B]", `[${scope("acme")}]`);
  expect(problems(text)[0]).toMatch(/^tenants\.b\.scopes\[0\]: is as specific as/);
});

test("what is allowed and probably not meant is a warning", () => {
  const text = `
version: 1
issuers:
  github: { kind: github, issuer: "https://token.actions.githubusercontent.com" }
  unused: { kind: gitlab, issuer: "https://gitlab.example.com" }
  ci: { kind: oidc, issuer: "https://ci.example.com", claims: { repositoryId: id } }
tenants:
  acme:
    views: { main: { default: true }, empty: {} }
    scopes:
      - { issuer: github, repository: { id: 1 }, trusted: { protected: true } }
      - { issuer: github, repository: { id: 2 }, trusted: { refs: ["refs/heads/*"] } }
      - { issuer: github, repositories: [{ id: 2 }, { id: 3 }] }
      - { issuer: ci, repository: { id: x }, untrusted: read }
sharedViews:
  shared: { writers: [{ issuer: github, repository: { id: 1 }, trusted: { refs: [refs/heads/main] } }] }
`;
  const check = parseTrustPolicy(text);
  const places = check.kind === "valid" ? check.warnings.map(({ place }) => place) : problems(text);
  expect(places.toSorted()).toEqual([
    "issuers.ci",
    "issuers.unused",
    "sharedViews.shared",
    "tenants.acme.scopes[0].trusted.protected",
    "tenants.acme.scopes[1].trusted.refs[0]",
    "tenants.acme.scopes[2]",
    "tenants.acme.scopes[2].repositories",
    "tenants.acme.scopes[3]",
    "tenants.acme.views.empty",
  ]);
});

test("keys that are one as text, aliases without end, and huge documents are refused", () => {
  expect(problems('version: 1\nissuers: { 1: {}, "1": {} }')[0]).toMatch(/Map keys must be unique/);
  const bomb = Array.from({ length: 9 }, (_, level) => {
    const inner =
      level === 0 ? '"x"' : Array.from({ length: 9 }, () => `*a${level - 1}`).join(", ");
    return `a${level}: &a${level} [${inner}]`;
  }).join("\n");
  expect(problems(bomb)[0]).toMatch(/repeats itself through aliases/);
  expect(problems(" ".repeat(5 * 2 ** 20))[0]).toMatch(/longer than/);
});

test("every text is answered, never with an exception", () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.json(), fc.stringMatching(/^[\n {}[\]:,&*!|>a-z0-9"'-]*$/)),
      (text) => {
        expect(["valid", "invalid"]).toContain(parseTrustPolicy(text).kind);
      },
    ),
    { numRuns: 500 },
  );
});
