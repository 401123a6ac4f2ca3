import { readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";

import {
  CLUSTER_ISSUER,
  createTemporaryDirectory,
  findNixVersions,
  githubClaims,
  type IdentityWorld,
  kubernetesClaims,
  runCommand,
  startIdentityWorld,
} from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { startNixJob } from "./nix-job.ts";

const PROJECT = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };
const ACCOUNT = { namespace: "ci", name: "runner", uid: "5e0bd49b-f040-43b0-99b7-22765a53f7f3" };
const ONE = `mkPath { name = "one"; script = "echo one > $out"; }`;
const TWO = `mkPath { name = "two"; script = "echo two > $out"; }`;

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
    const state: unknown = JSON.parse(await readFile(path.join(session, "session.json"), "utf8"));
    process.kill((state as { process: { pid: number } }).process.pid, "SIGKILL");
    const two = await job.build(TWO);
    const drained = await job.drain(["--end"]);
    expect(drained.report, await job.log()).toMatchObject({ left: 0, failed: 0 });
    expect(drained.summary?.warnings).toContain(
      "The agent had ended early: the job went on without it.",
    );
    expect(await readdir(job.temporary)).toEqual([]);

    await using next = await start(trusted());
    await next.setup();
    expect(await next.realise(two)).toMatchObject({ status: 0 });
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

  test("a server that is not there takes nothing from the job", async () => {
    await using job = await start({ ...trusted(), FLYWHEEL_SERVER: "http://127.0.0.1:9" });
    const result = await job.setup(["--timeout", "4s"]);
    expect(result).toMatchObject({
      status: "degraded",
      environment: { FLYWHEEL_STATUS: "degraded" },
    });
    expect(await readdir(job.temporary)).toEqual([]);
    await job.build(ONE);
  });
});
