import { readdir } from "node:fs/promises";

import {
  describeEachNix,
  githubClaims,
  type IdentityWorld,
  startIdentityWorld,
} from "@glorious/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

import { startNixJob } from "./nix-job.ts";

const PROJECT = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };
const PAIR = `mkPath { name = "app"; deps = [ dep ]; script = "echo \${dep} > $out"; }`;
const APP = `(let dep = mkPath { name = "dep"; script = "echo dep > $out"; }; in ${PAIR})`;

let world: IdentityWorld;
beforeAll(async () => {
  world = await startIdentityWorld({
    tenants: {
      hub: {
        views: { main: {} },
        scopes: [
          { issuer: "github", repository: { id: "2001" }, trusted: { refs: ["refs/heads/main"] } },
        ],
      },
    },
  });
});
afterAll(() => world[Symbol.asyncDispose]());

describeEachNix("a job without a secret", (nix) => {
  test("pushes as it builds, and the next one on a fresh machine builds nothing", async () => {
    const forge = world.jobEnvironment("github", githubClaims(PROJECT));
    const env = { ...forge, FLYWHEEL_SERVER: world.server.url };
    await using job = await startNixJob(nix, env);
    expect(await job.setup()).toMatchObject({
      status: "ready",
      tenant: "hub",
      cache: "hub+main",
      trust: "trusted",
      canPush: true,
      pushMode: "hook",
      existing: false,
      warnings: [],
    });
    const app = await job.build(APP);
    const drained = await job.drain(["--end"]);
    expect(drained, await job.log()).toMatchObject({
      report: { left: 0, failed: 0 },
      summary: { status: "ready", uploads: { queued: 2, pushed: 2 } },
    });
    expect(await readdir(job.temporary)).toEqual([]);

    await using next = await startNixJob(nix, env);
    expect(await next.setup()).toMatchObject({ status: "ready", warnings: [] });
    expect(await next.realise(app), await next.log()).toMatchObject({ status: 0 });
    const ended = await next.drain(["--end"]);
    expect(ended).toMatchObject({ summary: { nix: { hits: 2 } } });
    expect(ended.markdown).toContain("2 paths from the cache");
  });
});
