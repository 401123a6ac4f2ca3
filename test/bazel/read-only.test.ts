import { readdir, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";

import {
  type BazelResult,
  createBazelWorkspace,
  describeEachBazel,
  type RunningFlywheel,
  startFlywheel,
} from "@glorious/testkit";
import { expect, test } from "vitest";

import { SAMPLE_WORKSPACE } from "./sample-workspace.ts";
import { flywheel, useBazel } from "./use-bazel.ts";

/** Everything that Bazel stored, by the sizes of the files it lies in. */
async function storedFiles(server: RunningFlywheel): Promise<Map<string, number>> {
  const directory = path.join(server.dataDirectory, "tenants");
  const names = await readdir(directory, { recursive: true }).catch(() => []);
  const files = new Map<string, number>();
  for (const name of names) {
    const info = await stat(path.join(directory, name));
    if (info.isFile() && name.includes("/store/")) files.set(path.join(directory, name), info.size);
  }
  return files;
}

function expectGreen(result: BazelResult): void {
  expect(result.status, result.stderr).toBe(0);
}

describeEachBazel("a job that may only read", (bazel) => {
  test("hits what others built, writes nothing, and builds the rest", async () => {
    await using server = await startFlywheel();
    await using writer = await createBazelWorkspace(bazel);
    await writer.write(SAMPLE_WORKSPACE);
    await useBazel(writer, server);
    expectGreen(await writer.run(["build", "//:greeting", "//:big"]));
    const before = await storedFiles(server);

    const tokenFile = path.join(server.dataDirectory, "reader.token");
    const token = await flywheel(server, "token", "create", "--pull", "main");
    await writeFile(tokenFile, token, { mode: 0o600 });
    await using reader = await createBazelWorkspace(bazel);
    await reader.write(SAMPLE_WORKSPACE);
    await useBazel(reader, server, { tokenFile });
    const result = await reader.run(["build", "//..."]);
    expectGreen(result);
    expect(result.processes).toMatchObject({ "remote cache hit": 2 });
    expect(await storedFiles(server)).toEqual(before);

    // Who removes the setting is refused by the server, and still builds.
    await reader.clean();
    expectGreen(await reader.run(["build", "--remote_upload_local_results", "//..."]));
    expect(await storedFiles(server)).toEqual(before);
    await using another = await createBazelWorkspace(bazel);
    await another.write(SAMPLE_WORKSPACE);
    await useBazel(another, server, { tokenFile });
    expect((await another.run(["build", "//..."])).processes).toMatchObject({
      "remote cache hit": 2,
    });
  });
});

describeEachBazel("a cache that is full of fresh data", (bazel) => {
  test("takes no more, and the build is green", async () => {
    await using server = await startFlywheel({ env: { FLYWHEEL_BAZEL_MAX_SIZE: "64 KiB" } });
    await using workspace = await createBazelWorkspace(bazel);
    await workspace.write(SAMPLE_WORKSPACE);
    await useBazel(workspace, server);
    const first = await workspace.run(["build", "//..."]);
    expectGreen(first);
    const before = await storedFiles(server);
    await workspace.clean();
    const second = await workspace.run(["build", "//..."]);
    expect({ status: second.status, stderr: second.stderr }).toMatchObject({ status: 0 });
    expect(second.processes["local"]).toBeGreaterThan(0);
    expect(await storedFiles(server)).toEqual(before);
  });
});

describeEachBazel("a blob that the store lost", (bazel) => {
  test("is a miss for the next build, never an error, and healed by its upload", async () => {
    await using server = await startFlywheel();
    await using workspace = await createBazelWorkspace(bazel);
    await workspace.write(SAMPLE_WORKSPACE);
    await useBazel(workspace, server);
    expectGreen(await workspace.run(["build", "//:big"]));
    const files = [...(await storedFiles(server))].filter(([, size]) => size > 100_000);
    expect(files.length).toBeGreaterThan(0);
    for (const [file] of files) await rm(file);

    await using another = await createBazelWorkspace(bazel);
    await another.write(SAMPLE_WORKSPACE);
    await useBazel(another, server);
    const next = await another.run(["build", "//:big"]);
    expect({ status: next.status, stderr: next.stderr }).toMatchObject({ status: 0 });
    expect((await another.readOutput("big.txt")).length).toBe(2_688_895);

    await another.clean();
    const healed = await another.run(["build", "//:big"]);
    expectGreen(healed);
    expect(healed.processes).toMatchObject({ "remote cache hit": 1 });
  });
});
