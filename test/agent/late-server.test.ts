import { readFile } from "node:fs/promises";
import path from "node:path";

import {
  type ConnectionFault,
  type FaultProxy,
  findNixVersions,
  githubClaims,
  type IdentityWorld,
  startFaultProxy,
  startIdentityWorld,
} from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";

import { type NixJob, startNixJob } from "./nix-job.ts";

const PROJECT = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };
const OLD = `mkPath { name = "old"; script = "echo old > $out"; }`;
const NEW = `mkPath { name = "new"; script = "echo new > $out"; }`;
const PUSHED = { report: { left: 0 }, summary: { uploads: { pushed: 1 } } };
const SILENT: ConnectionFault = { after: { bytes: 0, towards: "server", kind: "black-hole" } };

/** A server that takes connections and answers nobody until it is told to. */
interface SilentServer extends AsyncDisposable {
  readonly url: string;
  speak(): Promise<void>;
}

const [nix] = findNixVersions().toReversed();

describe.skipIf(nix === undefined)("a set-up that does not wait for its server", () => {
  let world: IdentityWorld;
  beforeAll(async () => {
    world = await startIdentityWorld({
      tenants: {
        hub: {
          views: { main: { default: true } },
          scopes: [
            {
              issuer: "github",
              repository: { id: "2001" },
              trusted: { refs: ["refs/heads/main"] },
            },
          ],
        },
      },
    });
  });
  afterAll(() => world[Symbol.asyncDispose]());

  const silence = async (): Promise<SilentServer> => {
    let fault = SILENT;
    const proxy: FaultProxy = await startFaultProxy(
      () => Number(new URL(world.server.url).port),
      () => fault,
    );
    return {
      url: `http://127.0.0.1:${proxy.port}`,
      async speak() {
        fault = {};
        await proxy.refuse();
        await proxy.accept();
      },
      [Symbol.asyncDispose]: () => proxy[Symbol.asyncDispose](),
    };
  };
  const start = (server: string): Promise<NixJob> => {
    if (nix === undefined) throw new Error("There is no Nix");
    const identity = world.jobEnvironment("github", githubClaims(PROJECT));
    return startNixJob(nix, {
      FLYWHEEL_SERVER: server,
      FLYWHEEL_SERVER_WAIT: "200ms",
      ...identity,
    });
  };
  const audience = (): string[] => ["--audience", world.server.url];
  const answered = async (job: NixJob): Promise<void> => {
    await vi.waitFor(
      async () => {
        const { stdout } = await job.flywheel(["session", "--json"]);
        expect(JSON.parse(stdout)).toMatchObject({ summary: { status: "ready" } });
      },
      { timeout: 30_000, interval: 200 },
    );
  };
  const rcOf = (job: NixJob): Promise<string> =>
    readFile(path.join(job.env["FLYWHEEL_SESSION"] ?? "", "bazelrc"), "utf8");

  test("is over before the server answers, and what the job asks afterwards is served", async () => {
    await using before = await start(world.server.url);
    await before.setup(["--server-wait", "30s"]);
    const old = await before.build(OLD);
    expect(await before.drain(["--end"])).toMatchObject(PUSHED);
    await using server = await silence();
    await using job = await start(server.url);

    const result = await job.setup(audience());

    expect(result).toMatchObject({
      status: "pending",
      reason: expect.stringMatching(/ has not answered yet: the job goes on/),
      warnings: [],
    });
    // Nothing is in the cache yet, and what is built is kept for it.
    expect((await job.realise(old)).status).not.toBe(0);
    await job.build(NEW);

    await server.speak();
    await answered(job);
    const hit = await job.realise(old);
    expect(hit.status, hit.stderr).toBe(0);
    expect(await job.drain(), await job.log()).toMatchObject(PUSHED);
    expect(await job.setup()).toMatchObject({ status: "ready", cache: "hub+main", existing: true });
  });

  test("is added to by a second step, and both get what they asked for", async () => {
    await using server = await silence();
    await using job = await start(server.url);
    const bazel = ["setup", "--kind", "bazel", "--bazel-version", "7.7.1", "--bazelrc", "file"];
    expect(await job.setup(audience())).toMatchObject({ status: "pending" });

    const second = await job.flywheel([...bazel, "--json"]);

    expect(JSON.parse(second.stdout), second.stderr).toMatchObject({ status: "pending" });
    expect(await rcOf(job)).not.toContain("remote_cache");
    await server.speak();
    await answered(job);
    expect(await rcOf(job)).toContain("--remote_instance_name=hub+main");
    expect(await job.setup()).toMatchObject({ substituter: expect.any(String), existing: true });
  });

  test("of a server that never answers leaves the job an empty cache, and says at the end what was not pushed", async () => {
    await using server = await silence();
    await using job = await start(server.url);
    await job.setup(audience());
    await job.build(NEW);

    const { report, summary } = await job.drain(["--end"]);

    expect(report).toMatchObject({ pushed: 0, left: 1, reason: "the cache was not reached" });
    expect(summary).toMatchObject({
      status: "pending",
      warnings: [expect.stringMatching(/^1 path was not pushed/)],
    });
  });
});
