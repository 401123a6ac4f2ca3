import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { runCommand } from "@glorious/testkit";
import { expect, test } from "vitest";

import { ACTION_NAMES, actionDirectory } from "./action-copy.ts";

const SCRIPT = fileURLToPath(new URL("../../scripts/bundle-actions/main.ts", import.meta.url));
/** Loaded by few lines of `main`, and by no other part. */
const ON_DEMAND = "toolkit.mjs";

test("what is committed is what the sources make: bundles, notices, tables of the READMEs", async () => {
  const { status, stderr } = await runCommand(process.execPath, [SCRIPT, "--check"]);
  expect([status, stderr]).toEqual([0, ""]);
});

test.each(ACTION_NAMES)(
  "%s is small: entries up to 1.2 MB, the agent's bundle up to 3 MB",
  async (name) => {
    const dist = path.join(actionDirectory(name), "dist");
    const modules = (await readdir(dist)).filter((file) => file.endsWith(".mjs"));
    const sizeOf = async (file: string): Promise<number> =>
      (await stat(path.join(dist, file))).size;
    const entries = modules.filter((file) => file !== "flywheel.mjs" && file !== ON_DEMAND);
    const sizes = await Promise.all(entries.map(sizeOf));
    expect(modules).toContain(ON_DEMAND);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(1_200_000);
    expect(await sizeOf("flywheel.mjs")).toBeLessThan(3_000_000);
  },
);

test("the bundled command is the command line without the server, and says so", async () => {
  const bundle = path.join(actionDirectory("setup-attic"), "dist", "flywheel.mjs");
  const help = await runCommand(process.execPath, [bundle, "push", "--help"]);
  expect([help.status, help.stdout]).toEqual([0, expect.stringMatching(/flywheel push --dry-run/)]);
  const up = await runCommand(process.execPath, [bundle, "up"]);
  expect([up.status, up.stderr]).toEqual([1, expect.stringMatching(/has no server\n.*npm start/)]);
});
