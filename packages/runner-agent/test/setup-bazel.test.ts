import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";

import { createBazelWorkspace, describeEachBazel } from "@glorious/testkit";
import { expect, test } from "vitest";

import { sessionFiles } from "../src/session/session-files.ts";
import { configureBazel, findBazelRelease, removeFromUserRc } from "../src/setup/setup-bazel.ts";

const REQUEST = { rc: "user", compression: true, download: "toplevel" } as const;
const NOBODY = { grpc: "grpc://127.0.0.1:1", http: "http://127.0.0.1:1" };

describeEachBazel("a job's Bazel", (bazel) => {
  test("is configured in a folder of any name, and has its rc file back afterwards, byte for byte", async () => {
    await using workspace = await createBazelWorkspace(bazel);
    const files = sessionFiles(path.join(workspace.home, `it's a "täst" #1`));
    await mkdir(files.folder);
    await workspace.write({
      BUILD: `genrule(name = "one", outs = ["one.txt"], cmd = "echo 1 > $@")`,
    });
    const userRc = path.join(workspace.home, ".bazelrc");
    const before = "# mine";
    await writeFile(userRc, before);
    const request = { ...REQUEST, bazelVersion: bazel.version };
    const signal = AbortSignal.timeout(10_000);
    const release = () =>
      findBazelRelease(request, { env: {}, workspace: workspace.directory, signal });

    const configured = await configureBazel(
      { request, release, face: NOBODY, secret: "s", instanceName: "a b", canPush: true },
      { files, env: { HOME: workspace.home } },
    );
    const built = await workspace.run(["build", "--announce_rc", "//..."]);

    expect(configured.warnings).toEqual([]);
    expect(built.status, built.stderr).toBe(0);
    expect(built.stderr).toContain("--remote_cache=grpc://127.0.0.1:1");
    expect(built.stderr).toContain("--remote_instance_name=a b");
    await removeFromUserRc(files, { HOME: workspace.home });
    expect(await readFile(userRc, "utf8")).toBe(before);
  });
});
