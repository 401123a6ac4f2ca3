import { access, symlink } from "node:fs/promises";
import path from "node:path";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";

import { createTemporaryDirectory, runCommand } from "@glorious/testkit";
import { expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const LAUNCHER = path.join(ROOT, "bin", "flywheel");

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}

/** The middle of seven runs, in milliseconds. */
async function measureMs(command: string, args: readonly string[]): Promise<number> {
  const durations: number[] = [];
  for (let run = 0; run < 7; run += 1) {
    const start = performance.now();
    await runCommand(command, args);
    durations.push(performance.now() - start);
  }
  return durations.sort((left, right) => left - right)[3] ?? Number.NaN;
}

test("the launcher runs from any folder, through a chain of symbolic links", async () => {
  await using directory = await createTemporaryDirectory("flywheel launcher ");
  await symlink(LAUNCHER, path.join(directory.path, "absolute"));
  await symlink("absolute", path.join(directory.path, "relative"));

  const direct = await runCommand(LAUNCHER, ["--version"], { cwd: "/" });
  const linked = await runCommand("./relative", ["--version"], { cwd: directory.path });

  expect(direct, direct.stderr).toMatchObject({ status: 0, stderr: "" });
  expect(linked).toEqual(direct);
});

test("the launcher is at most 150 ms slower than Node itself", async () => {
  await runCommand(LAUNCHER, ["--version"]);

  const nodeMs = await measureMs(process.execPath, ["-e", "0"]);
  const launcherMs = await measureMs(LAUNCHER, ["--version"]);

  expect(launcherMs - nodeMs).toBeLessThanOrEqual(150);
});

test("a clone in a folder with spaces sets itself up once, and says so on standard error only", async ({
  skip,
}) => {
  if (!(await exists(path.join(ROOT, ".git")))) skip("this checkout is no git repository");
  await using directory = await createTemporaryDirectory("flywheel clone ");
  const clone = path.join(directory.path, "a clone");
  const cloned = await runCommand("git", ["clone", "--quiet", ROOT, clone]);
  expect(cloned, cloned.stderr).toMatchObject({ status: 0 });
  await runCommand("git", ["remote", "remove", "origin"], { cwd: clone });
  const launcher = path.join(clone, "bin", "flywheel");

  // Two at once: one of them installs, the other waits for it.
  const [first, other] = await Promise.all([
    runCommand(launcher, ["--version"]),
    runCommand(launcher, ["--version"]),
  ]);
  const later = await runCommand(launcher, ["--version"]);

  expect(first, first.stderr).toMatchObject({ status: 0, stdout: later.stdout });
  expect(other, other.stderr).toMatchObject({ status: 0, stdout: later.stdout });
  expect(first.stderr + other.stderr).toContain(
    `Installing the workspace's packages into ${clone}`,
  );
  expect(later).toMatchObject({ status: 0, stderr: "" });
  const status = await runCommand("git", ["status", "--porcelain"], { cwd: clone });
  expect(status.stdout).toBe("");
});
