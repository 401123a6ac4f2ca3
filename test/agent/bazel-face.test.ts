import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import path from "node:path";

import { createBazelWorkspace, describeEachBazel, startFlywheel } from "@glorious/testkit";
import { expect, test, vi } from "vitest";

import { type DownloadMode, startBazelJob } from "./bazel-job.ts";

const MODES: readonly DownloadMode[] = ["all", "toplevel", "minimal"];

/** What Bazel says when its cache makes trouble. */
const CACHE_TROUBLE = /Remote Cache|UNAVAILABLE|Exception/;

/** One action that hits, one that waits for a file, one that needs both. */
function buildFile(gate: string, salt: string): string {
  return `
genrule(name = "hit", outs = ["hit.txt"], cmd = "echo hit > $@")
genrule(name = "wait", outs = ["wait.txt"], cmd = "touch ${gate}.started; until [ -e ${gate} ]; do sleep 0.1; done; echo ${salt} > $@")
genrule(name = "both", srcs = ["hit.txt", "wait.txt"], outs = ["both.txt"], cmd = "cat $(SRCS) > $@")
`;
}

describeEachBazel("a Bazel behind the agent's face", (bazel) => {
  test("writes through it, and hits through it", async () => {
    await using server = await startFlywheel();
    await using job = await startBazelJob(server);
    await using workspace = await createBazelWorkspace(bazel);
    await workspace.write({ BUILD: `genrule(name = "a", outs = ["a.txt"], cmd = "echo a > $@")` });
    const first = await workspace.run(["build", ...job.args(bazel, "all"), "//..."]);
    expect(first.status, first.stderr).toBe(0);
    await workspace.clean();
    const second = await workspace.run(["build", ...job.args(bazel, "all"), "//..."]);
    expect(second.processes, second.stderr).toMatchObject({ "remote cache hit": 1 });
    expect(job.statistics.snapshot().bazel).toMatchObject({ actionHits: 1, degradedAnswers: 0 });
  });

  test("builds as without a cache when it is away, without a word", async () => {
    await using server = await startFlywheel();
    await using job = await startBazelJob(server);
    await using workspace = await createBazelWorkspace(bazel);
    await server.stop();
    await workspace.write({
      BUILD: Array.from(
        { length: 20 },
        (_, index) =>
          `genrule(name = "a${index}", outs = ["a${index}.txt"], cmd = "echo ${index} > $@")\n`,
      ).join(""),
    });
    const { status, stderr } = await workspace.run(["build", ...job.args(bazel, "all"), "//..."]);
    expect(status, stderr).toBe(0);
    expect(stderr).not.toMatch(CACHE_TROUBLE);
  });

  test.for(MODES)(
    "finds what it hit when the cache dies after it, downloading %s",
    async (mode) => {
      await using server = await startFlywheel();
      await using job = await startBazelJob(server);
      await using workspace = await createBazelWorkspace(bazel);
      const gate = path.join(workspace.home, "gate");
      await writeFile(gate, "");
      await workspace.write({ BUILD: buildFile(gate, "first") });
      const first = await workspace.run(["build", ...job.args(bazel, mode), "//:both"]);
      expect(first.status, first.stderr).toBe(0);
      await workspace.clean();

      const nextGate = path.join(workspace.home, "next");
      await workspace.write({ BUILD: buildFile(nextGate, "second") });
      const building = workspace.run(["build", ...job.args(bazel, mode), "//:both"]);
      await vi.waitUntil(
        () =>
          (job.statistics.snapshot().bazel?.actionHits ?? 0) > 0 &&
          existsSync(`${nextGate}.started`),
        { timeout: 60_000 },
      );
      await vi.waitUntil(() => mode === "all" || job.face.kept.blobs > 0, { timeout: 10_000 });
      await server.stop();
      await writeFile(nextGate, "");
      const second = await building;
      expect(second.status, second.stderr).toBe(0);
      expect(second.stderr).not.toMatch(CACHE_TROUBLE);
      if (mode !== "minimal")
        expect((await workspace.readOutput("both.txt")).toString()).toBe("hit\nsecond\n");
    },
  );
});
