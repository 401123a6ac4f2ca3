import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";

import { parseNarInfo } from "@glorious/nix-store";
import { githubClaims } from "@glorious/testkit";
import { expect, test } from "vitest";

import { exchangeJob, startIdentityServer } from "./identity-policy.ts";
import { createTestPath, type TestPath } from "./test-path.ts";
import { pushAttic } from "./uploads.ts";

const SITE = { owner: "acme", ownerId: 1001, repository: "acme/site", repositoryId: 2001 };
const QUEUE = {
  ...SITE,
  ref: "refs/heads/gh-readonly-queue/main/pr-12-6f1ed002",
  event: "merge_group",
};
const DOOMED = fileURLToPath(new URL("doomed-adopter.ts", import.meta.url));
const PATHS = 250;

test("a server that is killed while it takes over leaves only whole paths, and the next exchange does the rest", async () => {
  await using world = await startIdentityServer();
  const { server } = world;
  const queue = await exchangeJob(world, githubClaims({ ...QUEUE, runId: 70 }));
  const paths: TestPath[] = [];
  for (let number = 0; number < PATHS; number += 1) {
    const under = paths.at(-1);
    const references = under === undefined ? [] : [under.baseName];
    const path = await createTestPath(`p${number}`, `${number}`, references);
    expect((await pushAttic(server, queue.token, queue.write, path)).status).toBe(200);
    paths.push(path);
  }
  // Another push, which takes nothing over, sees what becomes visible.
  const commit = "0".repeat(40);
  const reader = await exchangeJob(world, githubClaims({ ...SITE, runId: 60, commit }));
  const file = join(server.directory, "index.sqlite");
  const database = new DatabaseSync(file);
  const offer = database.prepare("SELECT offers FROM principals WHERE offers IS NOT NULL").get();
  database.close();

  const replica = spawn(
    process.execPath,
    ["--conditions=source", DOOMED, file, "acme+main", String(offer?.["offers"])],
    { stdio: ["ignore", "ignore", "inherit"] },
  );
  expect(await once(replica, "exit")).toEqual([null, "SIGKILL"]);

  const visible = new Set<string>();
  for (const { baseName, storePathHash, references } of paths) {
    const { token } = reader;
    const narInfo = `/acme+main/${storePathHash}.narinfo`;
    const read = await server.send("GET", narInfo, { token });
    if (read.status !== 200) continue;
    visible.add(baseName);
    expect(references.filter((reference) => !visible.has(reference))).toEqual([]);
    const nar = `/acme+main/${parseNarInfo(read.text).url}`;
    expect((await server.send("HEAD", nar, { token })).status).toBe(200);
  }
  expect(visible.size).toBe(200);
  expect(await server.index.checkConsistency()).toEqual([]);

  const landing = await exchangeJob(world, githubClaims({ ...SITE, runId: 71 }));
  expect(landing.notices).toEqual([expect.stringContaining(`Adopted ${PATHS - 200} entries of`)]);
  const main = await server.index.findView("acme+main");
  const hashes = paths.map(({ storePathHash }) => storePathHash);
  expect(await server.index.findMissingPaths(main?.id ?? 0, hashes)).toEqual([]);
  expect((await exchangeJob(world, githubClaims({ ...SITE, runId: 72 }))).notices).toEqual([]);
});
