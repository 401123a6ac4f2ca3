import { lstat, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import path from "node:path";

import { createTemporaryDirectory, type TemporaryDirectory } from "@glorious/testkit";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { installCommand } from "../src/install-command.ts";

const BUNDLE = "console.log('ours');\n";

let runner: TemporaryDirectory;
let bundle: string;
beforeEach(async () => {
  runner = await createTemporaryDirectory("flywheel-tool-cache-");
  bundle = path.join(runner.path, "bundle.mjs");
  await writeFile(bundle, BUNDLE);
  vi.stubEnv("RUNNER_TOOL_CACHE", path.join(runner.path, "tools"));
  vi.stubEnv("RUNNER_TEMP", runner.path);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await runner[Symbol.asyncDispose]();
});

test("the command is kept in the runner's tool cache, once", async () => {
  const folder = await installCommand(bundle, runner.path);
  const { ino } = await lstat(folder);

  expect(await installCommand(bundle, runner.path)).toBe(folder);
  expect((await lstat(folder)).ino).toBe(ino);
  expect((await readdir(folder)).sort()).toEqual(["flywheel", "flywheel.mjs"]);
});

/** What a job before may have done to a folder that comes first in this one's PATH. */
const CHANGES: Readonly<Record<string, (folder: string) => Promise<void>>> = {
  "another bundle": (folder) => writeFile(path.join(folder, "flywheel.mjs"), "evil"),
  "another launcher": (folder) => writeFile(path.join(folder, "flywheel"), "#!/bin/sh\nevil\n"),
  "a program beside it": (folder) => writeFile(path.join(folder, "nix"), "#!/bin/sh\nevil\n"),
  "a link in its place": async (folder) => {
    const elsewhere = path.join(folder, "..", "elsewhere.mjs");
    await writeFile(elsewhere, BUNDLE);
    await rm(path.join(folder, "flywheel.mjs"));
    await symlink(elsewhere, path.join(folder, "flywheel.mjs"));
  },
};

test.each(Object.keys(CHANGES))("a job does not find %s in its PATH", async (change) => {
  const folder = await installCommand(bundle, runner.path);
  const launcher = await readFile(path.join(folder, "flywheel"), "utf8");
  await CHANGES[change]?.(folder);

  expect(await installCommand(bundle, runner.path)).toBe(folder);
  expect((await readdir(folder)).sort()).toEqual(["flywheel", "flywheel.mjs"]);
  expect(await readFile(path.join(folder, "flywheel"), "utf8")).toBe(launcher);
  expect(await readFile(path.join(folder, "flywheel.mjs"), "utf8")).toBe(BUNDLE);
  expect((await lstat(path.join(folder, "flywheel.mjs"))).isFile()).toBe(true);
});
