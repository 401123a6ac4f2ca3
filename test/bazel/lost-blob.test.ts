import { access, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";

import {
  type BazelWorkspace,
  createBazelWorkspace,
  describeEachBazel,
  type RunningFlywheel,
  startFlywheel,
} from "@glorious/testkit";
import { expect, test, vi } from "vitest";

import { useBazel } from "./use-bazel.ts";

/** Above what lies in the index itself. */
const BIG = `genrule(name = "big", outs = ["big.txt"], cmd = "seq 1 100000 > $@")\n`;

function after(word: string): string {
  const cmd = `(echo ${word}; tail -n 1 $<) > $@`;
  return `${BIG}genrule(name = "after", srcs = ["big.txt"], outs = ["after.txt"], cmd = "${cmd}")\n`;
}

/** Deletes every file of the Bazel data, behind the server's back. */
async function deleteFiles({ dataDirectory }: RunningFlywheel): Promise<number> {
  const names = await readdir(dataDirectory, { recursive: true, withFileTypes: true });
  const files = names.filter((entry) => entry.isFile() && entry.parentPath.includes("/blobs/cas/"));
  for (const { name, parentPath } of files) await rm(path.join(parentPath, name));
  return files.length;
}

async function newMachine(
  bazel: BazelWorkspace["bazel"],
  server: RunningFlywheel,
  args: readonly string[] = [],
): Promise<BazelWorkspace> {
  const workspace = await createBazelWorkspace(bazel);
  await useBazel(workspace, server, { args });
  return workspace;
}

describeEachBazel("a blob that is lost from the store", (bazel) => {
  const isNew = !bazel.version.startsWith("4.");
  // What would save such a build is not to: the server's answers alone have to do.
  const unaided = isNew ? ["--experimental_remote_cache_eviction_retries=0"] : [];

  test.for([
    ["gRPC", []],
    ["HTTP", ["--http"]],
  ] as const)(
    "makes the next build without the bytes a miss, which heals it, over %s",
    async ([, args]) => {
      await using server = await startFlywheel();
      await using one = await newMachine(bazel, server, args);
      await one.write({ BUILD: after("one") });
      const first = await one.run(["build", "//..."]);
      expect(first.status, first.stderr).toBe(0);
      expect(await deleteFiles(server)).toBe(1);

      // The lost output is an input of what has to be built.
      await using two = await newMachine(bazel, server, args);
      await two.write({ BUILD: after("two") });
      const second = await two.run(["build", "--remote_download_minimal", ...unaided, "//..."]);
      expect(second.status, second.stderr).toBe(0);
      expect(second.processes["remote cache hit"]).toBeUndefined();

      await using three = await newMachine(bazel, server, args);
      await three.write({ BUILD: after("three") });
      const third = await three.run([
        "build",
        "--remote_download_toplevel",
        ...unaided,
        "//:after",
      ]);
      expect(third.status, third.stderr).toBe(0);
      expect(third.processes).toMatchObject({ "remote cache hit": 1 });
      expect((await three.readOutput("after.txt")).toString()).toBe("three\n100000\n");
    },
  );

  test("after a build was told that it is there, costs a repetition, or with Bazel 4 the build", async () => {
    await using server = await startFlywheel();
    await using one = await newMachine(bazel, server);
    await one.write({ BUILD: BIG });
    const first = await one.run(["build", "//..."]);
    expect(first.status, first.stderr).toBe(0);

    await using two = await newMachine(bazel, server);
    const [waiting, goOn] = [path.join(two.home, "waiting"), path.join(two.home, "go-on")];
    const wait = `touch ${waiting}; until [ -e ${goOn} ]; do sleep 0.1; done; tail -n 1 $< > $@`;
    await two.write({
      BUILD: `${BIG}
genrule(name = "waits", srcs = [":hint"], outs = ["waits.txt"], cmd = "${wait}")
genrule(name = "hint", outs = ["hint.txt"], cmd = "echo hint > $@")
genrule(name = "after", srcs = ["waits.txt", "big.txt"], outs = ["after.txt"], cmd = "cat $(SRCS) | tail -n 1 > $@")
`,
    });
    const building = two.run(["build", "--remote_download_minimal", "//:after"]);
    await vi.waitUntil(() => exists(waiting), { timeout: 100_000 });
    expect(await deleteFiles(server)).toBe(1);
    await writeFile(goOn, "");

    const second = await building;
    // Bazel 4 ends the build, and the next one is whole: docs/tutorials/bazel-cache.md says so.
    expect(second.status, second.stderr).toBe(isNew ? 0 : 36);
    const next = await two.run(["build", "--remote_download_minimal", "//:after"]);
    expect(next.status, next.stderr).toBe(0);
  });
});

function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}
