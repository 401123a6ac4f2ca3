import { readdir, writeFile } from "node:fs/promises";
import path from "node:path";

import {
  createBazelWorkspace,
  describeEachBazel,
  type RunningFlywheel,
  startFlywheel,
} from "@glorious/testkit";
import { expect, test } from "vitest";

import { SAMPLE_WORKSPACE } from "./sample-workspace.ts";
import { flywheel, useBazel } from "./use-bazel.ts";

async function makeTenant(server: RunningFlywheel, view: string): Promise<string> {
  await flywheel(server, "view", "create", view);
  const token = await flywheel(server, "token", "create", "--push", view, "--pull", view);
  const file = path.join(server.dataDirectory, `${view.replace("+", "-")}.token`);
  await writeFile(file, token, { mode: 0o600 });
  return file;
}

describeEachBazel("two tenants with the same workspace", (bazel) => {
  test("share no hit and no file, and one's end leaves the other whole", async () => {
    await using server = await startFlywheel();
    const acme = await makeTenant(server, "acme+main");
    const other = await makeTenant(server, "other+main");
    await using one = await createBazelWorkspace(bazel);
    await using two = await createBazelWorkspace(bazel);
    for (const workspace of [one, two]) await workspace.write(SAMPLE_WORKSPACE);
    await useBazel(one, server, { tokenFile: acme, view: "acme+main" });
    await useBazel(two, server, { tokenFile: other, view: "other+main" });

    expect((await one.run(["build", "//..."])).status).toBe(0);
    const foreign = await two.run(["build", "//..."]);
    expect(foreign.status, foreign.stderr).toBe(0);
    expect(foreign.processes["remote cache hit"]).toBeUndefined();
    const files = await Promise.all(["acme", "other"].map((it) => listFiles(server, it)));
    expect(files[0]?.length).toBeGreaterThan(0);
    expect(files[1]?.length).toBeGreaterThan(0);

    await flywheel(server, "view", "destroy", "acme+main", "--yes");
    await two.clean();
    const again = await two.run(["build", "//..."]);
    expect(again.processes["local"]).toBeUndefined();
  });

  test("get nothing with the other's token, and build", async () => {
    await using server = await startFlywheel();
    const acme = await makeTenant(server, "acme+main");
    await makeTenant(server, "other+main");
    await using workspace = await createBazelWorkspace(bazel);
    await workspace.write(SAMPLE_WORKSPACE);
    await useBazel(workspace, server, { tokenFile: acme, view: "acme+main" });
    const result = await workspace.run([
      "build",
      "--remote_instance_name=other+main",
      "//:greeting",
    ]);
    expect(result.status, result.stderr).toBe(0);
    expect(result.stderr).toMatch(/PERMISSION_DENIED|UNAUTHENTICATED/);
  });
});

async function listFiles(server: RunningFlywheel, tenant: string): Promise<string[]> {
  const directory = path.join(server.dataDirectory, "tenants", tenant);
  return readdir(directory, { recursive: true });
}
