import { existsSync } from "node:fs";
import { readdir, writeFile } from "node:fs/promises";
import path from "node:path";

import {
  describeEachNix,
  githubClaims,
  type IdentityWorld,
  startIdentityWorld,
} from "@glorious/testkit";
import { afterAll, beforeAll, expect, test, vi } from "vitest";

import { startNixJob } from "./nix-job.ts";

const PROJECT = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };

let world: IdentityWorld;
beforeAll(async () => {
  world = await startIdentityWorld({
    tenants: {
      hub: {
        views: { main: { default: true } },
        scopes: [
          { issuer: "github", repository: { id: "2001" }, trusted: { refs: ["refs/heads/main"] } },
        ],
      },
    },
  });
});
afterAll(() => world[Symbol.asyncDispose]());

describeEachNix("a build that goes on after its job", (nix) => {
  test("comes to its end, and nothing of the job stays longer than it", async () => {
    const forge = world.jobEnvironment("github", githubClaims(PROJECT));
    await using job = await startNixJob(nix, { FLYWHEEL_SERVER: world.server.url, ...forge });
    expect(await job.setup()).toMatchObject({ pushMode: "hook" });
    const gate = path.join(job.sandbox.directory, "gate");
    const script = `touch ${gate}; until [ -e ${gate}.open ]; do sleep 0.1; done; echo done > $out`;
    const build = job.build(`mkPath { name = "late"; script = ${JSON.stringify(script)}; }`);
    await vi.waitUntil(() => existsSync(gate), { timeout: 30_000 });

    await job.drain(["--end"]);
    await writeFile(`${gate}.open`, "");

    expect(await build).toMatch(/-late$/);
    await expect.poll(() => readdir(job.temporary)).toEqual([]);
  });
});
