import { expect, test } from "vitest";

import {
  createBazelWorkspace,
  describeEachBazel,
  findDebianRoot,
  runInDebianRoot,
} from "../src/index.ts";

const TARGETS = {
  BUILD: `
genrule(name = "greeting", outs = ["greeting.txt"], cmd = "echo hello > $@")
cc_library(name = "three", srcs = ["three.cc"], hdrs = ["three.h"])
cc_binary(name = "main", srcs = ["main.cc"], deps = [":three"])
sh_test(name = "passes", srcs = ["passes.sh"])
`,
  "three.h": "int three();\n",
  "three.cc": `#include "three.h"\nint three() { return 3; }\n`,
  "main.cc": `#include "three.h"\nint main() { return three() - 3; }\n`,
  "passes.sh": "#!/bin/sh\nexit 0\n",
};

describeEachBazel("a workspace of its own", (bazel) => {
  test("builds and tests offline, and after a clean takes everything from a cache", async () => {
    await using workspace = await createBazelWorkspace(bazel);
    await workspace.write(TARGETS);
    const cache = `--disk_cache=${workspace.home}/cache`;

    const first = await workspace.run(["test", cache, "//..."]);
    expect(first.status, first.stderr).toBe(0);
    expect(first.processes["local"]).toBeGreaterThanOrEqual(5);
    expect((await workspace.readOutput("greeting.txt")).toString()).toBe("hello\n");

    await workspace.clean();
    const second = await workspace.run(["test", cache, "//..."]);
    expect(second.status, second.stderr).toBe(0);
    expect(second.processes["local"]).toBeUndefined();
  });

  test("says in its status when a build fails", async () => {
    await using workspace = await createBazelWorkspace(bazel);
    await workspace.write({ BUILD: `genrule(name = "no", outs = ["no.txt"], cmd = "exit 7")\n` });
    expect((await workspace.run(["build", "//..."])).status).toBe(1);
  });
});

test.for([
  ["bookworm", "ccache"],
  ["sid", "recc"],
  ["sid", "casupload"],
  ["sid", "sccache"],
] as const)("%s has %s", async ([suite, command], { skip }) => {
  const root = findDebianRoot(suite);
  if (typeof root === "string") {
    skip(root);
    return;
  }
  const result = await runInDebianRoot(root, command, ["--version"], {
    env: { PATH: "/usr/bin:/bin", HOME: "/tmp" },
  });
  expect(`${result.stdout}${result.stderr}`).toMatch(/\d+\.\d+/);
});
