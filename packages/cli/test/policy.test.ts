import { writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import {
  type Claims,
  createTemporaryDirectory,
  forgejoClaims,
  githubClaims,
  gitlabClaims,
  kubernetesClaims,
  runCommand,
} from "@glorious/testkit";
import { expect, test } from "vitest";

const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));
const GITHUB = "https://token.actions.githubusercontent.com";
const GITLAB = "https://gitlab.example.com";
const FORGE = "https://forge.example.org/api/actions";
const CLUSTER = "https://kubernetes.default.svc";

const POLICY = `
version: 1
issuers:
  github: { kind: github, issuer: "${GITHUB}" }
  gitlab: { kind: gitlab, issuer: "${GITLAB}" }
  forge: { kind: forgejo, issuer: "${FORGE}" }
  cluster: { kind: kubernetes, issuer: "${CLUSTER}" }
tenants:
  acme:
    views: { main: { default: true, reads: [shared] }, release: {} }
    scopes:
      - issuer: github
        organization: { id: 123, name: acme }
        trusted: { refs: [refs/heads/main] }
      - issuer: github
        repository: { id: 456, name: acme/app }
        view: release
        trusted: { refs: [refs/heads/main, "refs/tags/v*"] }
        untrusted: read
      - issuer: gitlab
        repository: { id: 22, name: acme/lib }
        trusted: { protected: true }
      - issuer: forge
        organization: { name: acme, confirmed: "2026-11-20" }
        trusted: { refs: [refs/heads/main] }
      - issuer: cluster
        namespace: { name: gf-acme }
        untrusted: read
sharedViews:
  shared:
    writers: [{ issuer: github, repository: { id: 9 }, trusted: { refs: [refs/heads/main] } }]
`;

const APP = { owner: "acme", ownerId: 123, repository: "acme/app", repositoryId: 456 };
const OTHER = { owner: "acme", ownerId: 123, repository: "acme/web", repositoryId: 457 };

async function flywheel(words: readonly string[], cwd?: string) {
  return runCommand(process.execPath, ["--conditions=source", MAIN, ...words], {
    env: { PATH: process.env["PATH"], HOME: "/nonexistent" },
    ...(cwd === undefined ? {} : { cwd }),
  });
}

async function explain(claims: Claims, more: readonly string[] = [], policy = POLICY) {
  await using directory = await createTemporaryDirectory();
  await writeFile(path.join(directory.path, "policy.yaml"), policy);
  await writeFile(path.join(directory.path, "claims.json"), JSON.stringify(claims));
  const files = ["--policy", "policy.yaml", "--claims", "claims.json"];
  // Awaited here: the directory goes with this function.
  return await flywheel(["policy", "explain", ...files, ...more], directory.path);
}

test("what does a pull request get?", async () => {
  const claims = {
    iss: GITHUB,
    ...githubClaims({ ...OTHER, ref: "refs/pull/12/merge", event: "pull_request" }),
  };
  expect((await explain(claims)).stdout).toMatchInlineSnapshot(`
    "Overlay: it reads the view, and what it writes only its own branch or pull request sees.
    Because: The job belongs to a pull or merge request of the same repository.

    tenant       acme
    reads        acme+main_ref-c9a7dfcb, then acme+main, then shared
    writes       acme+main_ref-c9a7dfcb
    token lives  1 h

    The job, as its claims state it:
      issuer       https://token.actions.githubusercontent.com
      repository   acme/web, id 457
      owner        acme, id 123
      ref          refs/pull/12/merge
      event        pull_request
      fork's code  no

    Rules about it, the narrowest first:
      tenants.acme.scopes[0]  organization 123: decides
      (4 about others)

    What would change it:
      No policy can trust it; the job that runs once the commit has landed on a trusted ref is trusted.
    "
  `);
});

test("why does my release branch not fill the cache?", async () => {
  const claims = { iss: GITHUB, ...githubClaims({ ...APP, ref: "refs/heads/release/2" }) };
  expect((await explain(claims)).stdout).toMatchInlineSnapshot(`
    "Overlay: it reads the view, and what it writes only its own branch or pull request sees.
    Because: "refs/heads/release/2" is not among the trusted refs of the rule.

    tenant       acme
    reads        acme+release_ref-427bd4ae, then acme+release
    writes       acme+release_ref-427bd4ae
    token lives  1 h

    The job, as its claims state it:
      issuer       https://token.actions.githubusercontent.com
      repository   acme/app, id 456
      owner        acme, id 123
      ref          refs/heads/release/2
      event        push
      fork's code  no

    Rules about it, the narrowest first:
      tenants.acme.scopes[1]  repository 456: decides
      tenants.acme.scopes[0]  organization 123: wider
      (3 about others)

    What would change it:
      Add "refs/heads/release/2", or a pattern that covers it, to trusted.refs (now refs/heads/main, refs/tags/v*), and it is trusted.
    "
  `);
});

test("why is the job that greets contributors refused?", async () => {
  const claims = { iss: GITHUB, ...githubClaims({ ...OTHER, event: "pull_request_target" }) };
  expect((await explain(claims)).stdout).toMatchInlineSnapshot(`
    "Refused (untrusted-no-read): An outsider can cause the event "pull_request_target", or bring the code that it runs. The rule lets such jobs read nothing.

    The job, as its claims state it:
      issuer       https://token.actions.githubusercontent.com
      repository   acme/web, id 457
      owner        acme, id 123
      ref          refs/heads/main
      event        pull_request_target
      fork's code  unknown

    Rules about it, the narrowest first:
      tenants.acme.scopes[0]  organization 123: decides
      (4 about others)

    What would change it:
      Write untrusted: read in the rule, and it reads the view.
      No policy can trust it; do what has to write in a job on push, or for an overlay on pull_request.
    "
  `);
});

test("why does the new project get nothing?", async () => {
  const claims = {
    iss: GITLAB,
    ...gitlabClaims({ project: "acme/new", projectId: 23, namespaceId: 7 }),
  };
  expect((await explain(claims)).stdout).toMatchInlineSnapshot(`
    "Refused (no-matching-scope): No rule of the policy is about this identity.

    The job, as its claims state it:
      issuer       https://gitlab.example.com
      repository   acme/new, id 23
      owner        acme, id 7
      ref          refs/heads/main
      event        push
      fork's code  no

    No rule is about it.
      (5 about others)

    What would change it:
      Add a scope with repository: { id: 23, name: "acme/new" } to a tenant.
    "
  `);
});

test("why does nothing work since the forge was updated?", async () => {
  const claims = { iss: FORGE, ...forgejoClaims({ ...APP, hasIds: true }) };
  expect((await explain(claims)).stdout).toMatchInlineSnapshot(`
    "Refused (ids-required): The rule knows the owner by name only, and the token carries ids: owner 123, repository 456.

    The job, as its claims state it:
      issuer       https://forge.example.org/api/actions
      repository   acme/app, id 456
      owner        acme, id 123
      ref          refs/heads/main
      event        push
      fork's code  no

    Rules about it, the narrowest first:
      tenants.acme.scopes[3]  organization by the name acme: by name only
      (4 about others)

    What would change it:
      Write organization: { id: 123 } or repository: { id: 456 } in the rule instead of the name.
    "
  `);
});

test("JSON has the same keys for a grant and for a refusal", async () => {
  const grant = await explain({ iss: GITHUB, ...githubClaims({ ...APP, ref: "refs/tags/v1" }) }, [
    "--json",
  ]);
  const refusal = await explain(
    { iss: GITHUB, ...githubClaims({ ...OTHER, event: "issue_comment" }) },
    ["--json"],
  );

  expect(grant).toMatchObject({ status: 0, stderr: "" });
  expect(JSON.parse(grant.stdout)).toEqual({
    decision: "granted",
    tenant: "acme",
    trust: "trusted",
    read: ["acme+release"],
    write: "acme+release",
    overlayOf: null,
    rule: "tenants.acme.scopes[1]",
    reason: '"refs/tags/v1" is a trusted ref of the rule.',
    changes: [],
  });
  expect(JSON.parse(refusal.stdout)).toMatchObject({
    decision: "refused",
    code: "untrusted-no-read",
    tenant: null,
    trust: null,
    read: [],
    write: null,
    rule: "tenants.acme.scopes[0]",
    reason: expect.stringContaining("issue_comment"),
  });
});

test("the request narrows the answer, and a request for more is refused", async () => {
  const claims = { iss: GITHUB, ...githubClaims(OTHER) };
  const ask = async (...more: string[]): Promise<unknown> =>
    JSON.parse((await explain(claims, [...more, "--json"])).stdout);

  expect(await ask("--mode", "read")).toMatchObject({ read: ["acme+main", "shared"], write: null });
  expect(await ask("--view", "shared")).toMatchObject({ read: ["shared"], write: null });
  expect(await ask("--view", "acme+release")).toMatchObject({ code: "view-not-granted" });
});

test("claims that cannot be read, and an issuer that is unknown, are refusals too", async () => {
  const json = async (claims: Claims, ...more: string[]): Promise<unknown> =>
    JSON.parse((await explain(claims, [...more, "--json"])).stdout);

  expect(await json({ iss: "https://elsewhere.example" })).toMatchObject({
    decision: "refused",
    code: "unknown-issuer",
  });
  expect(await json({ iss: GITHUB, ref: "main" })).toMatchObject({
    decision: "refused",
    code: "bad-claims",
    reason: 'The claim "repository_owner_id" is missing.',
  });
  expect(
    await json(
      kubernetesClaims({ namespace: "gf-acme", name: "nix", uid: "0-1" }),
      "--issuer",
      "cluster",
    ),
  ).toMatchObject({ decision: "granted", trust: "untrusted", read: ["acme+main", "shared"] });
});

test("an identity token serves as well as its payload", async () => {
  await using directory = await createTemporaryDirectory();
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = { iss: GITHUB, ...githubClaims(APP) };
  const token = `${part({ alg: "RS256" })}.${part(claims)}.c2lnbmF0dXJl`;
  await writeFile(path.join(directory.path, "policy.yaml"), POLICY);
  await writeFile(path.join(directory.path, "token"), `${token}\n`);

  const words = ["policy", "explain", "--policy", "policy.yaml", "--claims", "token", "--json"];
  const { stdout } = await flywheel(words, directory.path);

  expect(JSON.parse(stdout)).toMatchObject({ trust: "trusted", write: "acme+release" });
});

test("a good policy is told so, a bad one lists all that is wrong and fails", async () => {
  await using directory = await createTemporaryDirectory();
  await writeFile(path.join(directory.path, "good.yaml"), POLICY);
  await writeFile(
    path.join(directory.path, "bad.yaml"),
    POLICY.replace("  acme:", "  Acme:").replace("repository: { id: 22", "repository: { id: lib"),
  );

  const good = await flywheel(["policy", "check", "good.yaml"], directory.path);
  const bad = await flywheel(["policy", "check", "bad.yaml"], directory.path);
  const json = await flywheel(["policy", "check", "bad.yaml", "--json"], directory.path);

  expect(good).toMatchObject({
    status: 0,
    stdout: "",
    stderr: "good.yaml is a good policy (tenants: 1, views: 3, scopes: 5).\n",
  });
  expect(bad).toMatchObject({
    status: 1,
    stdout:
      "tenants.Acme: is no tenant's name: it has 1 to 24 lowercase letters of a to z, digits and hyphens. Write acme.\n",
    stderr: "flywheel: bad.yaml has one problem: no server would take it\n",
  });
  expect(json.status).toBe(1);
  expect(JSON.parse(json.stdout)).toMatchObject({
    isValid: false,
    problems: [{ place: "tenants.Acme", hint: "Write acme." }],
  });
});

test.each([
  [["policy", "explain"], 2, /--policy FILE and --claims FILE/],
  [
    ["policy", "explain", "--policy", "a", "--claims", "b", "--mode", "all"],
    2,
    /neither read nor write/,
  ],
  [["policy", "check", "/nonexistent"], 1, /\/nonexistent does not exist/],
  [["policy", "check"], 2, /policy check needs FILE/],
  [["policy"], 2, /policy needs a command/],
] as const)("%j fails with an explanation", async (words, status, message) => {
  const result = await flywheel(words);
  expect(result).toMatchObject({ status, stdout: "" });
  expect(result.stderr).toMatch(message);
});
