import { createBazelWorkspace, describeEachBazel, startFlywheel } from "@glorious/testkit";
import { expect, test } from "vitest";

import { SAMPLE_WORKSPACE } from "./sample-workspace.ts";
import { useBazel } from "./use-bazel.ts";

describeEachBazel("a remote cache of ours", (bazel) => {
  test.for([
    ["gRPC", []],
    ["HTTP", ["--http"]],
  ] as const)("gives another machine everything that one built, over %s", async ([, args]) => {
    await using server = await startFlywheel();
    await using one = await createBazelWorkspace(bazel);
    await one.write(SAMPLE_WORKSPACE);
    await useBazel(one, server, { args });

    const first = await one.run(["test", "//..."]);
    expect(first.status, first.stderr).toBe(0);
    expect(first.stderr).not.toMatch(/WARNING: (Reading from|Writing to|Remote) /);
    expect(first.processes["remote cache hit"]).toBeUndefined();
    const built = first.processes["local"] ?? 0;
    expect(built).toBeGreaterThanOrEqual(10);

    await using another = await createBazelWorkspace(bazel);
    await another.write(SAMPLE_WORKSPACE);
    await useBazel(another, server, { args });
    const second = await another.run(["test", "//..."]);
    expect(second.status, second.stderr).toBe(0);
    expect(second.processes).toMatchObject({ "remote cache hit": built });
    expect(second.processes["local"]).toBeUndefined();
    for (const name of ["twice.txt", "empty.txt", "of_tree.txt"]) {
      expect(await another.readOutput(name)).toEqual(await one.readOutput(name));
    }
    expect((await another.readOutput("big.txt")).length).toBe(2_688_895);

    await one.clean();
    const third = await one.run(["test", "//..."]);
    expect(third.processes).toMatchObject({ "remote cache hit": built });
  });

  test("builds without the bytes, and fetches what is asked for later", async () => {
    await using server = await startFlywheel();
    await using one = await createBazelWorkspace(bazel);
    await one.write(SAMPLE_WORKSPACE);
    await useBazel(one, server);
    const first = await one.run(["build", "//..."]);
    expect(first.status, first.stderr).toBe(0);

    await one.clean();
    // Bazel 4 builds anew what has links in it.
    const targets = ["--", "//...", "-//:tree", "-//:of_tree"];
    const minimal = await one.run(["build", "--remote_download_minimal", ...targets]);
    expect(minimal.status, minimal.stderr).toBe(0);
    expect(minimal.processes["local"]).toBeUndefined();
    await expect(one.readOutput("big.txt")).rejects.toMatchObject({ code: "ENOENT" });

    // The input of the next action is in the cache only.
    await one.write({
      BUILD: `${SAMPLE_WORKSPACE["BUILD"]}
genrule(name = "later", srcs = ["big.txt"], outs = ["later.txt"], cmd = "tail -n 1 $< > $@")
`,
    });
    const later = await one.run(["build", "--remote_download_toplevel", "//:later"]);
    expect(later.status, later.stderr).toBe(0);
    expect((await one.readOutput("later.txt")).toString()).toBe("400000\n");
  });
});
