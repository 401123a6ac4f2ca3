import { chmod, mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import path from "node:path";

import {
  type CommandResult,
  createTemporaryDirectory,
  runCommand,
  startFaultProxy,
  type TemporaryDirectory,
} from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { createCommandFolder, hookFile, writeRunnerConfig } from "./hooked-runner.ts";

const BEGINNINGS = ["job-started", "pre-build"] as const;
const HOOKS = [...BEGINNINGS, "job-completed", "post-build"] as const;
const SHELLS = [["sh"], ["sh", "-eu"], ["bash", "--noprofile", "--norc", "-eo", "pipefail"]];

let folder: TemporaryDirectory;
let tools: string;
let command: string;
beforeAll(async () => {
  folder = await createTemporaryDirectory("flywheel-hooks-");
  command = await createCommandFolder(folder.path);
  // A system with nothing but what a hook needs, and no Node.
  tools = path.join(folder.path, "tools");
  await mkdir(tools);
  for (const tool of ["sh", "bash", "env", "timeout"]) {
    await symlink(await findTool(tool), path.join(tools, tool));
  }
});
afterAll(() => folder[Symbol.asyncDispose]());

async function findTool(tool: string): Promise<string> {
  const { stdout } = await runCommand("sh", ["-c", `command -v ${tool}`]);
  return stdout.trim();
}

async function run(
  hook: (typeof HOOKS)[number],
  env: Readonly<Record<string, string>>,
  [shell = "sh", ...words]: readonly string[] = ["sh"],
): Promise<CommandResult & { readonly exported: string }> {
  const file = path.join(folder.path, "github-env");
  await writeFile(file, "");
  const result = await runCommand(shell, [...words, hookFile(hook)], {
    env: { PATH: process.env["PATH"] ?? "", GITHUB_ENV: file, TMPDIR: folder.path, ...env },
    cwd: folder.path,
  });
  return { ...result, exported: await readFile(file, "utf8") };
}

const linesOf = ({ stderr }: CommandResult): string[] => stderr.trim().split("\n");

describe.each(HOOKS)("%s", (hook) => {
  test.each(SHELLS)(
    "ends well in a bare environment without our command (%s)",
    async (...shell) => {
      const result = await run(hook, { PATH: tools, GITHUB_ENV: "" }, shell);

      expect(result).toMatchObject({ status: 0, stdout: "" });
      expect(linesOf(result).length).toBeLessThanOrEqual(1);
    },
  );
});

describe.each(BEGINNINGS)("%s", (hook) => {
  test("says in one line that our command is not there", async () => {
    const result = await run(hook, { PATH: tools });

    expect(linesOf(result)).toEqual([
      expect.stringMatching(/^flywheel: there is no flywheel in the .* PATH: the job goes on/),
    ]);
  });

  test("says that the set-up failed where there is no Node", async () => {
    const bin = path.join(folder.path, `without-node-${hook}`);
    await mkdir(bin);
    await writeFile(path.join(bin, "flywheel"), "#!/usr/bin/env node\n");
    await chmod(path.join(bin, "flywheel"), 0o755);

    const result = await run(hook, { PATH: `${bin}:${tools}` });

    expect(result).toMatchObject({ status: 0, stdout: "", exported: "" });
    expect(linesOf(result).at(-1)).toBe(
      "flywheel: the set-up ended with 127: the job goes on without the cache",
    );
  });

  test.each([
    ["no HOME", {}],
    ["a HOME that cannot be written", { HOME: "/dev/null/home" }],
    ["limits that are no numbers", { FLYWHEEL_HOOK_SECONDS: "-1; exit 3" }],
  ])("ends well with %s", async (_, env) => {
    const result = await run(hook, { PATH: `${command}:${process.env["PATH"]}`, ...env }, [
      ...["sh", "-eu"],
    ]);

    expect(result.status).toBe(0);
    expect(result.stderr).toMatch(/disabled: No server is named/);
  });

  test("gives a server up that takes connections and never answers", async () => {
    await using hole = await startFaultProxy(
      () => 9,
      () => ({ after: { bytes: 0, towards: "server", kind: "black-hole" } }),
    );
    const config = await writeRunnerConfig(folder.path, `http://127.0.0.1:${hole.port}`);

    const result = await run(hook, {
      PATH: `${command}:${process.env["PATH"]}`,
      FLYWHEEL_RUNNER_CONFIG: config,
    });

    expect(result.status).toBe(0);
    expect(`${result.exported}${result.stdout}`).toMatch(
      /^(export )?FLYWHEEL_STATUS='?degraded'?$/m,
    );
    expect(linesOf(result)).toEqual(["degraded: The server took too long to answer"]);
  });
});

test("what a shell is to export survives set -eu, and a hook that is not there", async () => {
  const script = `set -eu; eval "$("$1" || :)"; eval "$(/nowhere/pre-build.sh || :)"; echo "went on with $FLYWHEEL_STATUS"`;
  const result = await runCommand("sh", ["-c", script, "sh", hookFile("pre-build")], {
    env: { PATH: `${command}:${process.env["PATH"]}`, TMPDIR: folder.path },
    cwd: folder.path,
  });

  expect(result).toMatchObject({ status: 0, stdout: "went on with disabled\n" });
});
