import { spawn } from "node:child_process";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { userInfo } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import {
  CLUSTER_ISSUER,
  createTemporaryDirectory,
  findNixVersions,
  githubClaims,
  gitlabClaims,
  type IdentityWorld,
  kubernetesClaims,
  runCommand,
  startIdentityWorld,
} from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { startNixDaemon } from "./nix-daemon.ts";
import { startNixJob } from "./nix-job.ts";

const PROJECT = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };
const ACCOUNT = { namespace: "ci", name: "runner", uid: "5e0bd49b-f040-43b0-99b7-22765a53f7f3" };
const ONE = `mkPath { name = "one"; script = "echo one > $out"; }`;
const TWO = `mkPath { name = "two"; script = "echo two > $out"; }`;

async function killAgent(session = ""): Promise<void> {
  const state: unknown = JSON.parse(await readFile(path.join(session, "session.json"), "utf8"));
  process.kill((state as { process: { pid: number } }).process.pid, "SIGKILL");
}

const [nix] = findNixVersions().toReversed();

describe.skipIf(nix === undefined)("a job's session", () => {
  let world: IdentityWorld;
  beforeAll(async () => {
    world = await startIdentityWorld({
      tenants: {
        hub: {
          views: { main: { default: true }, open: { public: true } },
          scopes: [
            {
              issuer: "github",
              repository: { id: "2001" },
              trusted: { refs: ["refs/heads/main"] },
            },
            {
              issuer: "gitlab",
              repository: { id: "2001" },
              trusted: { refs: ["refs/heads/main"] },
            },
            {
              issuer: "cluster",
              serviceAccount: { namespace: "ci", name: "runner" },
              untrusted: "read",
            },
          ],
        },
      },
    });
  });
  afterAll(() => world[Symbol.asyncDispose]());

  const start = (env: Readonly<Record<string, string>>) => {
    if (nix === undefined) throw new Error("There is no Nix");
    return startNixJob(nix, { FLYWHEEL_SERVER: world.server.url, ...env });
  };
  const trusted = () => world.jobEnvironment("github", githubClaims(PROJECT));

  test("an agent that is killed fails no build, and what it left is pushed by a later step", async () => {
    await using job = await start(trusted());
    const { session = "" } = await job.setup();
    await job.build(ONE);
    await killAgent(session);
    const two = await job.build(TWO);
    const drained = await job.drain(["--end"]);
    expect(drained.report, await job.log()).toMatchObject({ left: 0, failed: 0 });
    expect(drained.summary?.warnings).toContain(
      "The agent had ended early: the job went on without it.",
    );
    expect(await readdir(job.temporary)).toEqual([]);
    const listProcesses = async () => (await runCommand("ps", ["-eo", "args"])).stdout;
    await expect.poll(listProcesses).not.toContain(session);

    await using next = await start(trusted());
    await next.setup();
    expect(await next.realise(two)).toMatchObject({ status: 0 });
  });

  test("a setup after an agent was killed makes a new session, which pushes what the old one left", async () => {
    await using job = await start(trusted());
    const first = await job.setup();
    await killAgent(first.session);
    const one = await job.build(ONE);
    const second = await job.setup();
    expect(second).toMatchObject({ status: "ready", existing: false });
    expect(second.session).not.toBe(first.session);
    expect(await job.drain()).toMatchObject({ summary: { uploads: { pushed: 1, left: 0 } } });
    const found = await job.realise(one);
    expect([found.status, found.stderr]).toEqual([0, expect.not.stringContaining("unable to")]);
    await job.drain(["--end"]);
    expect(await readdir(job.temporary)).toEqual([]);
  });

  test("used twice it is reported once, and gets the kind that it lacks", async () => {
    await using job = await start(trusted());
    const first = await job.setup();
    const again = await job.setup();
    expect(again).toMatchObject({ existing: true, status: "ready", session: first.session });
    const bazel = await job.request({
      version: 1,
      kinds: ["bazel"],
      bazel: { rc: "user", bazelVersion: "7.7.1" },
    });
    expect(bazel).toMatchObject({ existing: true, status: "ready", pushMode: "hook" });
    const rc = path.join(job.sandbox.home, ".bazelrc");
    expect(await readFile(rc, "utf8")).toContain(`try-import ${first.session}/bazelrc`);
    await job.drain(["--end"]);
    await expect(readFile(rc)).rejects.toThrow("ENOENT");
    expect(await readdir(job.temporary)).toEqual([]);
  });

  test("nothing secret is printed, logged, or in a command line or the job's environment", async () => {
    await using job = await start(trusted());
    const { masks, session = "" } = await job.setup();
    await job.build(ONE);
    const drained = await job.drain();
    expect(masks.length).toBe(2);
    const [token = "", secret = ""] = masks;
    const processes = await runCommand("ps", ["-eo", "args"]);
    expect(processes.stdout).toContain(session);
    const seen = [processes.stdout, job.printed(), await job.log(), JSON.stringify(drained)];
    const hook = await readFile(path.join(session, "post-build-hook"), "utf8");
    for (const text of [...seen, hook]) {
      expect(text).not.toContain(token);
      expect(text).not.toContain(secret);
    }
    expect(Object.values(job.env).join("\n")).not.toContain(token);
  });

  test.each([
    ["read", "read-only"],
    ["none", "disabled"],
  ])("a workflow whose cache mode is %s gets %s", async (mode, status) => {
    await using job = await start({ ...trusted(), ACTIONS_CACHE_MODE: mode });
    expect(await job.setup()).toMatchObject({ status, canPush: false, pushMode: "none" });
  });

  test("of two tools the one that is here is set up, and the other is not missed", async () => {
    await using job = await start(trusted());
    const result = await job.request({ version: 1, kinds: ["nix", "bazel"] });
    expect(result).toMatchObject({ status: "ready", pushMode: "hook", warnings: [] });
    expect(result.notes).toEqual(["There is no Bazel in PATH."]);
  });

  test("a runner's hook appends to the job's environment", async () => {
    await using job = await start(trusted());
    const file = path.join(job.sandbox.directory, "github-env");
    await writeFile(file, "A=1\n");
    const said = await job.flywheel(["setup", "--kind", "nix", "--export-file", file]);
    expect(said).toMatchObject({ status: 0, stdout: "" });
    const text = await readFile(file, "utf8");
    expect(text).toMatch(/^A=1\n(?:[A-Z_]+=[^\n]+\n)+$/);
    const session = /^FLYWHEEL_SESSION=(.+)$/m.exec(text)?.[1] ?? "";
    expect(await job.drain(["--end", "--session", session])).toMatchObject({ report: { left: 0 } });
    expect(await readdir(job.temporary)).toEqual([]);
  });

  test("a job that wants to push nothing only reads", async () => {
    await using job = await start(trusted());
    const result = await job.setup(["--push-when", "false"]);
    expect(result).toMatchObject({ status: "read-only", canPush: false, warnings: [] });
  });

  describe("without the permission to show an identity", () => {
    const unidentified = { GITHUB_ACTIONS: "true" };

    test("a private view is disabled, with the lines to add", async () => {
      await using job = await start(unidentified);
      const result = await job.setup(["--view", "hub+main"]);
      expect(result).toMatchObject({
        status: "disabled",
        hint: ["permissions:", "  contents: read", "  id-token: write"],
      });
      expect(result.environment).toEqual({ FLYWHEEL_STATUS: "disabled" });
      expect(await readdir(job.temporary)).toEqual([]);
    });

    test("a public view is read", async () => {
      await using job = await start(unidentified);
      const result = await job.setup(["--view", "hub+open"]);
      expect(result).toMatchObject({
        status: "read-only",
        cache: "hub+open",
        hint: ["permissions:", "  contents: read", "  id-token: write"],
        warnings: [],
      });
    });

    test("the runner's own identity reads", async () => {
      await using directory = await createTemporaryDirectory();
      const identityTokenFile = path.join(directory.path, "identity");
      const claims = { ...kubernetesClaims(ACCOUNT), iss: CLUSTER_ISSUER };
      await writeFile(identityTokenFile, world.issuers.cluster.mint(claims));
      const config = path.join(directory.path, "runner.json");
      await writeFile(config, JSON.stringify({ version: 1, identityTokenFile }));
      await using job = await start({ ...unidentified, FLYWHEEL_RUNNER_CONFIG: config });
      expect(await job.setup()).toMatchObject({
        status: "read-only",
        trust: "untrusted",
        canPush: false,
        warnings: [],
      });
    });
  });

  test("a daemon that does not trust the user is told of, and the job pushes by what is new", async () => {
    if (nix === undefined) return;
    await using daemon = await startNixDaemon(nix, "nobody");
    await using job = await start({ ...trusted(), ...daemon.env });
    const result = await job.setup();
    expect(result).toMatchObject({
      status: "degraded",
      reason: expect.stringMatching(/does not trust the user/),
      hint: [expect.stringMatching(/^trusted-users = root /)],
      canPush: true,
      pushMode: "store-diff",
    });
    expect(result.environment).not.toHaveProperty("NIX_USER_CONF_FILES");
    const one = await job.build(ONE);
    const { summary } = await job.drain(["--end"]);
    expect(summary?.status).toBe("degraded");

    await using next = await start(trusted());
    await next.setup();
    expect(await next.realise(one)).toMatchObject({ status: 0 });
  });

  test("a daemon that trusts the user runs the hook and reads from the cache", async () => {
    if (nix === undefined) return;
    await using daemon = await startNixDaemon(nix, userInfo().username);
    await using job = await start({ ...trusted(), ...daemon.env });
    expect(await job.setup()).toMatchObject({ status: "ready", pushMode: "hook", warnings: [] });
    await job.build(ONE);
    const { summary } = await job.drain();
    expect(summary, await job.log()).toMatchObject({ uploads: { pushed: 1, left: 0 } });
    // It asked the cache before it built.
    expect(summary?.nix?.misses.absent).toBeGreaterThan(0);
  });

  test("a job of GitLab is set up by one line of its shell", async () => {
    const project = { project: "acme/site", projectId: 2001, namespaceId: 1001 };
    await using job = await start(world.jobEnvironment("gitlab", gitlabClaims(project)));
    const script = `set -eu
eval "$("$0" setup --kind nix --shell)"
"$0" session
"$0" drain --end`;
    const said = await job.shell(script);
    expect(said, said.stderr).toMatchObject({ status: 0 });
    expect(said.stderr).toMatch(/^ready: /m);
    expect(said.stdout).toContain("| Cache | hub+main (trusted) |");
    expect(await readdir(job.temporary)).toEqual([]);
  });

  test("a token that the server takes no more is replaced, and the job notices nothing", async () => {
    await using earlier = await start(trusted());
    await earlier.setup();
    const one = await earlier.build(ONE);
    await earlier.drain(["--end"]);

    await using job = await start(trusted());
    const { session = "" } = await job.setup();
    const file = path.join(session, "token");
    const before = await readFile(file, "utf8");
    const { url, tokenFile } = world.server;
    const revoke = ["token", "revoke", "--token-to-revoke", file];
    const revoked = await job.flywheel([...revoke, "--server", url, "--token-file", tokenFile]);
    expect(revoked).toMatchObject({ status: 0 });
    expect(await job.realise(one), await job.log()).toMatchObject({ status: 0 });
    expect(await readFile(file, "utf8")).not.toBe(before);
    await job.build(TWO);
    const drained = await job.drain();
    expect(drained, await job.log()).toMatchObject({
      report: { left: 0, failed: 0 },
      summary: { nix: { hits: 1 }, uploads: { pushed: 1 } },
    });
  });

  test("two jobs of one runner at a time stay apart, and leave the home as it was", async () => {
    await using home = await createTemporaryDirectory("flywheel-home-");
    const rc = path.join(home.path, ".bazelrc");
    await writeFile(rc, "build --color=yes");
    const request = { version: 1, kinds: ["bazel"], bazel: { bazelVersion: "7.7.1" } };
    const env = { ...trusted(), HOME: home.path };
    await using first = await start(env);
    await using second = await start(env);
    expect(await first.request(request)).toMatchObject({ status: "ready" });
    expect(await second.request(request)).toMatchObject({
      status: "degraded",
      warnings: [{ code: "shared-bazelrc" }],
    });
    await second.drain(["--end"]);
    expect(await readFile(rc, "utf8")).toContain(first.temporary);
    await first.drain(["--end"]);
    expect(await readFile(rc, "utf8")).toBe("build --color=yes");
    expect([...(await readdir(first.temporary)), ...(await readdir(second.temporary))]).toEqual([]);
  });

  test("an agent whose job is gone pushes what is left, and removes itself", async () => {
    const runner = spawn("sleep", ["600"]);
    await using job = await start(trusted());
    await job.request({ version: 1, kinds: ["nix"], jobPid: runner.pid });
    const one = await job.build(ONE);
    runner.kill();
    await expect.poll(() => readdir(job.temporary), { timeout: 30_000 }).toEqual([]);

    await using next = await start(trusted());
    await next.setup();
    expect(await next.realise(one)).toMatchObject({ status: 0 });
  });

  test("a drain for which the server is gone ends by itself, and says what is left", async () => {
    await using job = await start(trusted());
    await job.setup();
    await world.server.stop();
    try {
      await job.build(ONE);
      const { report, summary } = await job.drain(["--end", "--timeout", "100s"]);
      expect(report).toMatchObject({ pushed: 0, left: 1, reason: expect.stringMatching(/./) });
      expect(summary?.warnings.join(" ")).toContain("1 path was not pushed");
    } finally {
      await world.restart();
    }
  });

  test("a home that cannot be written keeps Bazel's line out, and the rest is set up", async () => {
    await using job = await start({ ...trusted(), HOME: "/dev/null/home" });
    const result = await job.request({
      version: 1,
      kinds: ["nix", "bazel"],
      bazel: { bazelVersion: "7.7.1" },
    });
    expect(result).toMatchObject({
      status: "degraded",
      substituter: expect.stringMatching(/^http:/),
      bazel: { rcPath: expect.stringMatching(/bazelrc$/) },
      warnings: [
        { code: "no-home", message: expect.stringMatching(/^\/dev\/null\/home\/\.bazelrc/) },
      ],
    });
  });

  test("an agent whose set-up dies before it has begun ends too, and has done nothing", async () => {
    await using folder = await createTemporaryDirectory("flywheel-early-");
    const launcher = fileURLToPath(new URL("../../bin/flywheel", import.meta.url));

    const words = ["agent", "--session", folder.path, "--wait"];
    const agent = await runCommand(launcher, words, { env: { ...process.env }, input: "" });

    expect(agent).toEqual({ status: 0, stdout: "", stderr: "" });
    expect(await readdir(folder.path)).toEqual([]);
  });

  test("a Nix that heeds nothing of ours is left as it is, and the job is told why", async () => {
    await using job = await start({ ...trusted(), NIX_CONFIG: "substituters =" });

    const result = await job.setup();

    expect(result).toMatchObject({
      status: "degraded",
      reason: "Nix does not heed the settings that were written for it",
    });
    expect(result.environment).not.toHaveProperty("NIX_USER_CONF_FILES");
    await job.build(ONE);
  });

  test("a server that is not there takes nothing from the job", async () => {
    await using job = await start({ ...trusted(), FLYWHEEL_SERVER: "http://127.0.0.1:9" });
    const result = await job.setup(["--timeout", "4s"]);
    expect(result).toMatchObject({
      status: "degraded",
      warnings: [{ message: result.reason }],
      environment: { FLYWHEEL_STATUS: "degraded" },
    });
    expect(await readdir(job.temporary)).toEqual([]);
    await job.build(ONE);
  });
});
