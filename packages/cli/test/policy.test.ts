import { readFile, writeFile } from "node:fs/promises";
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

const PAGE = await readFile(
  new URL("../../../docs/how-to/policy-answers.md", import.meta.url),
  "utf8",
);

/** What the page shows as the answer to a question. */
function answerTo(question: string): string {
  const [, section = ""] = PAGE.split(`\n## ${question}\n`);
  return /```text\n([^]*?)```/.exec(section)?.[1] ?? "";
}

test("the page's answers are to the policy that it shows", () => {
  // The formatter breaks its lines elsewhere.
  const compact = (text: string): string => text.replaceAll(/[\s"]|,(?=\s*[}\]])/g, "");
  expect(compact(/```yaml\n([^]*?)```/.exec(PAGE)?.[1] ?? "")).toBe(compact(POLICY));
});

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
  expect((await explain(claims)).stdout).toBe(answerTo("What does a pull request get?"));
});

test("why does my release branch not fill the cache?", async () => {
  const claims = { iss: GITHUB, ...githubClaims({ ...APP, ref: "refs/heads/release/2" }) };
  expect((await explain(claims)).stdout).toBe(
    answerTo("Why does my release branch not fill the cache?"),
  );
});

test("why is the job that greets contributors refused?", async () => {
  const claims = { iss: GITHUB, ...githubClaims({ ...OTHER, event: "pull_request_target" }) };
  expect((await explain(claims)).stdout).toBe(
    answerTo("Why is the job that greets contributors refused?"),
  );
});

test("why does the new project get nothing?", async () => {
  const claims = {
    iss: GITLAB,
    ...gitlabClaims({ project: "acme/new", projectId: 23, namespaceId: 7 }),
  };
  expect((await explain(claims)).stdout).toBe(answerTo("Why does the new project get nothing?"));
});

test("why does nothing work since the forge was updated?", async () => {
  const claims = { iss: FORGE, ...forgejoClaims({ ...APP, hasIds: true }) };
  expect((await explain(claims)).stdout).toBe(
    answerTo("Why does nothing work since the forge was updated?"),
  );
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
