import { once } from "node:events";
import { readFile, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";

import {
  CLUSTER_ISSUER,
  type CommandResult,
  createTemporaryDirectory,
  forgejoClaims,
  githubClaims,
  gitlabClaims,
  type IdentityWorld,
  kubernetesClaims,
  runCommand,
  startIdentityWorld,
  startIssuer,
  startTestJob,
  type TestJob,
} from "@glorious/testkit";
import { beforeAll, afterAll, describe, expect, test } from "vitest";

const LAUNCHER = fileURLToPath(new URL("../../../bin/flywheel", import.meta.url));

const PROJECT = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };
const ON_GITHUB = githubClaims(PROJECT);
const ON_FORGEJO = forgejoClaims({ ...PROJECT, hasIds: true });
const ON_GITLAB = gitlabClaims({ project: "acme/site", projectId: 2001, namespaceId: 1001 });

/** One server whose policy knows a project on each forge, and the runners of a cluster. */
function startWorld(): Promise<IdentityWorld> {
  const trusted = { refs: ["refs/heads/main"] };
  const tenant = (scope: object) => ({ views: { main: {} }, scopes: [scope] });
  const id = "2001";
  return startIdentityWorld({
    tenants: {
      hub: tenant({ issuer: "github", repository: { id }, trusted }),
      lab: tenant({ issuer: "gitlab", repository: { id }, trusted }),
      forge: tenant({ issuer: "forgejo", repository: { id }, trusted }),
      runners: tenant({
        issuer: "cluster",
        serviceAccount: { namespace: "ci", name: "runner" },
        untrusted: "read",
      }),
    },
  });
}

async function expectNoSecret({ configFile }: TestJob, said: CommandResult): Promise<void> {
  const text = await readFile(configFile, "utf8");
  const secrets = [...text.matchAll(/"(?:token|requestToken)": "([^"]+)"/g)];
  expect(secrets.length).toBeGreaterThan(0);
  for (const [, secret = ""] of secrets) expect(said.stdout + said.stderr).not.toContain(secret);
}

describe("with a policy for all forges", () => {
  let world: IdentityWorld;
  beforeAll(async () => {
    world = await startWorld();
  });
  afterAll(() => world[Symbol.asyncDispose]());

  test.each<[string, (directory: string) => Promise<Record<string, string>>, string, string]>([
    ["GitHub", async () => world.jobEnvironment("github", ON_GITHUB), "hub", "hub+main"],
    ["Forgejo", async () => world.jobEnvironment("forgejo", ON_FORGEJO), "forge", "forge+main"],
    ["GitLab", async () => world.jobEnvironment("gitlab", ON_GITLAB), "lab", "lab+main"],
    [
      "a runner's own identity",
      async (directory) => {
        const account = {
          namespace: "ci",
          name: "runner",
          uid: "5e0bd49b-f040-43b0-99b7-22765a53f7f3",
        };
        const identityTokenFile = path.join(directory, "identity");
        const claims = { ...kubernetesClaims(account), iss: CLUSTER_ISSUER };
        await writeFile(identityTokenFile, `${world.issuers.cluster.mint(claims)}\n`);
        const config = path.join(directory, "runner.json");
        const content = { version: 1, server: world.server.url, identityTokenFile };
        await writeFile(config, JSON.stringify(content));
        return { FLYWHEEL_RUNNER_CONFIG: config };
      },
      "runners",
      "nothing",
    ],
  ])(
    "a job of %s gets what the policy says, without a secret",
    async (_, prepare, tenant, write) => {
      await using directory = await createTemporaryDirectory();
      await using job = await startTestJob(await prepare(directory.path));
      const isRunner = tenant === "runners";
      const exchanged = await job.run([
        "exchange",
        ...(isRunner ? [] : ["--server", world.server.url]),
      ]);
      expect(exchanged).toMatchObject({ status: 0, stdout: "" });
      expect(exchanged.stderr).toContain(
        `Tenant ${tenant}, ${isRunner ? "untrusted" : "trusted"}: `,
      );
      await expectNoSecret(job, exchanged);
      expect((await stat(job.configFile)).mode & 0o777).toBe(0o600);

      const who = await job.run(["whoami", "--json"]);
      expect(who).toMatchObject({ status: 0 });
      expect(JSON.parse(who.stdout)).toMatchObject({
        server: `${world.server.url}/`,
        tenant,
        trust: isRunner ? "untrusted" : "trusted",
        reason: expect.any(String),
        read: [`${tenant}+main`],
        expiresAt: expect.stringMatching(/Z$/),
        ...(isRunner ? {} : { write }),
      });
      await expectNoSecret(job, who);
      const shown = await job.run(["whoami"]);
      expect(shown.stdout).toMatch(new RegExp(`^writes +${write.replace("+", "\\+")}$`, "m"));
      expect(shown.stdout).toMatch(/^expires .*\(in [\d.]+ (?:m|h)\)$/m);
      const removed = await job.run(["overlay", "delete", "--ref", "refs/heads/gone"]);
      expect([removed.status, removed.stderr]).toEqual(
        isRunner
          ? [1, expect.stringContaining("destroy")]
          : [0, expect.stringContaining("no such overlay")],
      );
      const info = await job.run(["view", "info", "--json"]);
      expect([info.status, info.stdout]).toEqual([0, expect.stringContaining(`${tenant}+main`)]);
    },
  );

  test.each([
    [{}, /FLYWHEEL_ID_TOKEN/],
    [{ GITHUB_ACTIONS: "true" }, /id-token: write/],
    [{ GITHUB_ACTIONS: "true", FORGEJO_ACTIONS: "true" }, /enable-openid-connect/],
    [{ GITLAB_CI: "true" }, /id_tokens/],
  ])("a job with %j is told which line it lacks", async (env, hint) => {
    await using job = await startTestJob(env);
    const { status, stderr } = await job.run(["exchange", "--server", world.server.url]);
    expect([status, stderr]).toEqual([1, expect.stringMatching(hint)]);
  });

  test("an identity token for another service is never sent", async () => {
    const token = world.issuers.gitlab.mint(ON_GITLAB, { audience: "https://elsewhere.example" });
    await using job = await startTestJob({ GITLAB_CI: "true", FLYWHEEL_ID_TOKEN: token });
    const before = world.server.logs().match(/identity token/g)?.length;
    const { status, stderr } = await job.run(["exchange", "--server", world.server.url]);
    expect([status, stderr]).toEqual([1, expect.stringContaining(`aud: ${world.server.url}`)]);
    expect(stderr).not.toContain(token);
    expect(world.server.logs().match(/identity token/g)?.length).toBe(before);
  });

  test("a workflow that forbids to write caches is obeyed", async () => {
    const env = { ...world.jobEnvironment("github", ON_GITHUB), ACTIONS_CACHE_MODE: "read" };
    await using job = await startTestJob(env);
    const server = ["--server", world.server.url];
    expect((await job.run(["exchange", ...server, "--require-write"])).status).toBe(1);
    const { status, stdout } = await job.run(["exchange", ...server, "--json"]);
    expect(status).toBe(0);
    expect(JSON.parse(stdout).grant).not.toHaveProperty("write");
    expect(JSON.parse(stdout)).not.toHaveProperty("token");
  });

  test("the token goes into a file, or to standard output, only when that is asked for", async () => {
    await using job = await startTestJob(world.jobEnvironment("github", ON_GITHUB));
    const server = ["--server", world.server.url];
    const toFile = await job.run(["exchange", ...server, "--output", "token"]);
    const file = path.join(job.home, "token");
    const token = (await readFile(file, "utf8")).trim();
    expect(token).toMatch(/^eyJ/);
    expect(toFile.stdout + toFile.stderr).not.toContain(token);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    await expect(stat(job.configFile)).rejects.toMatchObject({ code: "ENOENT" });
    const printed = await job.run(["exchange", ...server, "--print-token"]);
    expect(printed.stdout).toMatch(/^eyJ[\w.-]+\n$/);
    await expect(stat(job.configFile)).rejects.toMatchObject({ code: "ENOENT" });
  });

  test("a token of login is not replaced", async () => {
    await using job = await startTestJob(world.jobEnvironment("github", ON_GITHUB));
    const login = ["login", world.server.url, "--token-file", world.server.tokenFile];
    expect((await job.run(login)).status).toBe(0);
    const before = await job.savedToken();
    const { status, stderr } = await job.run(["exchange"]);
    expect([status, stderr]).toEqual([1, expect.stringContaining("--output")]);
    expect(await job.savedToken()).toBe(before);
  });

  test("whoami tells of a revoked token, and fails", async () => {
    await using job = await startTestJob(world.jobEnvironment("github", ON_GITHUB));
    await job.run(["exchange", "--server", world.server.url]);
    const { exp, jti } = JSON.parse(
      Buffer.from((await job.savedToken()).split(".")[1] ?? "", "base64url").toString(),
    ) as { exp: number; jti: string };
    const admin = ["--server", world.server.url, "--token-file", world.server.tokenFile];
    expect(exp).toBeGreaterThan(0);
    expect((await runCommand(LAUNCHER, ["token", "revoke", jti, ...admin])).status).toBe(0);
    const who = await job.run(["whoami", "--json"]);
    expect(who.status).toBe(1);
    expect(JSON.parse(who.stdout)).toMatchObject({ refused: expect.stringContaining("revoked") });
  });
});

/** Puts a token in the place of the saved one that lasts so long still; only a server could tell that it is none. */
async function ageToken({ configFile }: TestJob, leftSeconds: number): Promise<string> {
  const encode = (value: object): string =>
    Buffer.from(JSON.stringify(value)).toString("base64url");
  const nowSeconds = Math.floor(Date.now() / 1000);
  const claims = { exp: nowSeconds + leftSeconds, nbf: nowSeconds - 3600, sub: "aged" };
  const aged = `${encode({ alg: "HS256" })}.${encode(claims)}.signature`;
  const text = await readFile(configFile, "utf8");
  await writeFile(configFile, text.replace(/"token": "eyJ[^"]+"/, `"token": "${aged}"`));
  return aged;
}

test("a token that is about to expire is exchanged again, and while that fails the old one serves", async () => {
  await using world = await startWorld();
  await using job = await startTestJob(world.jobEnvironment("github", ON_GITHUB));
  expect((await job.run(["exchange", "--server", world.server.url])).status).toBe(0);
  const first = await job.savedToken();
  const ask = (): Promise<CommandResult> =>
    job.run(["credential-helper", "get"], { input: JSON.stringify({ uri: world.server.url }) });
  const given = ({ stdout }: CommandResult): unknown => JSON.parse(stdout).headers.Authorization;

  expect(given(await ask())).toEqual([`Bearer ${first}`]);
  expect(await job.savedToken()).toBe(first);
  await ageToken(job, 60);
  const answer = await ask();
  const second = await job.savedToken();
  expect(second).not.toBe(first);
  expect(given(answer)).toEqual([`Bearer ${second}`]);
  expect((await job.run(["whoami"])).status).toBe(0);

  await world.issuers.github.conduct("fail");
  const aged = await ageToken(job, 60);
  const during = await ask();
  expect(given(during)).toEqual([`Bearer ${aged}`]);
  expect(during.stderr).toMatch(/expires soon/);
  await ageToken(job, -60);
  const after = await ask();
  expect([after.status, after.stdout]).toEqual([0, `{"headers":{}}\n`]);
  const who = await job.run(["whoami"]);
  expect([who.status, who.stderr]).toEqual([1, expect.stringContaining("has expired")]);
  for (const { stderr } of [answer, during, after, who]) expect(stderr).not.toMatch(/eyJ/);
});

/** A server that says what it wants. */
async function startRogue(answers: Readonly<Record<string, (body: string) => [number, unknown]>>) {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? "/", "http://rogue");
    requests.push(pathname);
    let body = "";
    request.setEncoding("utf8").on("data", (text: string) => (body += text));
    request.on("end", () => {
      const [status, value] = answers[pathname]?.(body) ?? [404, {}];
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

describe("a server that is not ours", () => {
  test("gets no token that is good for another", async () => {
    await using issuer = await startIssuer();
    const audience = "https://cache.example.org";
    await using rogue = await startRogue({
      "/_flywheel/v1/discover": () => [200, { version: "1", audience, notices: [] }],
    });
    await using job = await startTestJob(issuer.jobEnvironment(ON_GITHUB));
    const { status, stderr } = await job.run(["exchange", "--server", rogue.url]);
    expect([status, stderr]).toEqual([1, expect.stringContaining(audience)]);
    expect(rogue.requests).toEqual(["/_flywheel/v1/discover"]);
  });

  test("cannot make the token appear in a message", async () => {
    await using issuer = await startIssuer();
    let sent = "";
    await using rogue = await startRogue({
      "/_flywheel/v1/discover": () => [200, { version: "1", audience: rogue.url, notices: [] }],
      "/_flywheel/v1/exchange": (body) => {
        sent = (JSON.parse(body) as { token: string }).token;
        return [403, { code: 403, error: "FORBIDDEN", message: `not with ${sent}` }];
      },
    });
    await using job = await startTestJob(issuer.jobEnvironment(ON_GITHUB));
    const { status, stderr } = await job.run(["exchange", "--server", rogue.url]);
    expect([status, stderr]).toEqual([1, expect.stringContaining("not with <token>")]);
    expect(sent).toMatch(/^eyJ/);
    expect(stderr).not.toContain(sent);
  });
});

test("a forge that gives no identity token is waited for 10 s at most", async () => {
  await using issuer = await startIssuer();
  await using rogue = await startRogue({
    "/_flywheel/v1/discover": () => [200, { version: "1", audience: rogue.url, notices: [] }],
  });
  await issuer.conduct("hang");
  await using job = await startTestJob(issuer.jobEnvironment(ON_GITHUB));
  const { status, stderr } = await job.run(["exchange", "--server", rogue.url]);
  expect([status, stderr]).toEqual([1, expect.stringContaining("no identity token in 10 s")]);
});
