import { chmod, mkdir, mkdtemp, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import path from "node:path";

import {
  type CommandResult,
  createTemporaryDirectory,
  type IdentityWorld,
  runCommand,
  startFaultProxy,
  startIdentityWorld,
  type TemporaryDirectory,
} from "@glorious/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { actionDirectory } from "../actions/action-copy.ts";
import { JOBS, TENANTS } from "../gitlab/gitlab-jobs.ts";
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

  test("ends well with a server that takes connections and never answers", async () => {
    await using hole = await startFaultProxy(
      () => 9,
      () => ({ after: { bytes: 0, towards: "server", kind: "black-hole" } }),
    );
    const config = await writeRunnerConfig(folder.path, `http://127.0.0.1:${hole.port}`);
    const env = { PATH: `${command}:${process.env["PATH"]}`, HOME: folder.path };

    const result = await run(hook, { ...env, FLYWHEEL_RUNNER_CONFIG: config });

    // Where there is a tool to set up, the agent goes on asking: test/agent/late-server has that.
    const exported = `${result.exported}${result.stdout}`;
    expect(result.status).toBe(0);
    expect(exported).toMatch(/^(export )?FLYWHEEL_STATUS='?(degraded|pending)'?$/m);
    expect(result.stderr).toMatch(/^(degraded|pending): /m);
    const [, session] = /FLYWHEEL_SESSION='?([^'\n]+)/.exec(exported) ?? [];
    if (session !== undefined) {
      await runCommand("flywheel", ["drain", "--end", "--session", session], { env });
    }
  });
});

describe("where the server works", () => {
  let world: IdentityWorld;
  let config: string;
  /** What a job has in PATH: neither bash nor Node by its name. */
  let sole: string;
  beforeAll(async () => {
    world = await startIdentityWorld({ tenants: TENANTS });
    config = path.join(folder.path, "newer.json");
    const facts = { version: 1, server: world.server.url, somethingNew: true };
    await writeFile(config, JSON.stringify(facts));
    sole = path.join(folder.path, "sole");
    await mkdir(sole);
    for (const tool of ["sh", "env", "timeout"]) {
      await symlink(await findTool(tool), path.join(sole, tool));
    }
    const bundle = path.join(actionDirectory("setup-flywheel"), "dist", "flywheel.mjs");
    await writeTool("flywheel", `exec '${process.execPath}' '${bundle}' "$@"`);
    await writeTool("bazel", "echo bazel 8.0.0");
  });
  afterAll(() => world[Symbol.asyncDispose]());

  const writeTool = (name: string, script: string): Promise<void> =>
    writeFile(path.join(sole, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });

  const ENDS = { "job-started": "job-completed", "pre-build": "post-build" } as const;
  const WITHOUT_HOME: readonly (readonly [string, Readonly<Record<string, string>>, RegExp])[] = [
    ["no HOME", {}, /^degraded: There is no HOME, so Bazel/m],
    ["an empty HOME", { HOME: "" }, /^degraded: There is no HOME, so Bazel/m],
    [
      ...(["a HOME that cannot be written", { HOME: "/proc/1" }] as const),
      /^degraded: \/proc\/1\/\.bazelrc cannot be written/m,
    ],
  ];
  /** Runs a job's two hooks with nothing but an `sh`. */
  async function runJob(
    hook: (typeof BEGINNINGS)[number],
    given: Readonly<Record<string, string>> = {},
  ) {
    const temporary = await mkdtemp(path.join(folder.path, "job-"));
    const env = {
      PATH: sole,
      FLYWHEEL_RUNNER_CONFIG: config,
      // A busy machine is no slow server.
      FLYWHEEL_HOOK_SECONDS: "30",
      NODE_COMPILE_CACHE: path.join(folder.path, "compiled"),
      RUNNER_TEMP: temporary,
      TMPDIR: temporary,
      ...world.jobEnvironment("gitlab", JOBS.main),
      ...given,
    };
    const begun = await run(hook, env, ["sh", "-eu"]);
    const exported = `${begun.exported}${begun.stdout}`;
    const read = (name: string): string | undefined =>
      new RegExp(`^(?:export )?${name}(?:=|<<.*\n)'?([^'\n]*)`, "m").exec(exported)?.[1];
    const session = read("FLYWHEEL_SESSION") ?? "";
    const ended = await run(ENDS[hook], { ...env, FLYWHEEL_SESSION: session }, ["sh", "-eu"]);
    return { begun, status: read("FLYWHEEL_STATUS"), ended, left: await readdir(temporary) };
  }

  test.each(BEGINNINGS)(
    "%s: a job with an sh alone and empty limits uses the cache, and leaves nothing",
    async (hook) => {
      const home = await mkdtemp(path.join(folder.path, "home-"));
      const limits = { FLYWHEEL_HOOK_SECONDS: "", FLYWHEEL_DRAIN_SECONDS: "" };
      const { begun, status, ended, left } = await runJob(hook, { HOME: home, ...limits });

      expect([begun.status, status], begun.stderr).toEqual([0, "ready"]);
      expect([ended.status, left, await readdir(home)], ended.stderr).toEqual([0, [], []]);
    },
  );

  test.each(
    BEGINNINGS.flatMap((hook) => WITHOUT_HOME.map((situation) => [hook, ...situation] as const)),
  )("%s says how Bazel uses the cache all the same with %s", async (hook, _, env, line) => {
    const { begun, status, ended, left } = await runJob(hook, env);

    expect([begun.status, status]).toEqual([0, "degraded"]);
    expect(begun.stderr).toMatch(line);
    expect(begun.stderr).toMatch(/^ {2}bazel --bazelrc=\S+\/bazelrc build …$/m);
    expect([ended.status, left], ended.stderr).toEqual([0, []]);
  });

  test("pre-build says in one line that there is no tool, and its end is quiet", async () => {
    const empty = path.join(folder.path, "no-tool");
    await mkdir(empty);
    for (const tool of ["sh", "env", "timeout", "flywheel"]) {
      await symlink(path.join(sole, tool), path.join(empty, tool));
    }
    const { begun, status, ended, left } = await runJob("pre-build", { PATH: empty });

    expect([begun.status, status]).toEqual([0, "degraded"]);
    expect(linesOf(begun)).toEqual([
      "degraded: There is no Nix in PATH. There is no Bazel in PATH.",
    ]);
    expect([ended.status, ended.stderr, left]).toEqual([0, "", []]);
  });

  test.each(
    BEGINNINGS.flatMap((hook) =>
      [
        ["", /cannot be read as JSON/],
        ["[]", /is unusable: /],
        [`{ "version": "1" }`, /is unusable: version: /],
        [`{ "version": 2, "server": "https://cache.example.org" }`, /is unusable: version: /],
        [`{ "version": 1, "server": 7 }`, /is unusable: server: /],
        [`{ "version": 1, "server": "" }`, /is unusable: server: /],
        [`{ "version": 1, "server": "cache" }`, /cache/],
      ].map(([text, line]) => [hook, String(text), line] as const),
    ),
  )("%s names what is wrong in the runner's file: %s", async (hook, text, line) => {
    const file = path.join(folder.path, "broken.json");
    await writeFile(file, text);

    const { begun, status, ended, left } = await runJob(hook, { FLYWHEEL_RUNNER_CONFIG: file });

    expect([begun.status, status], begun.stderr).toEqual([0, "degraded"]);
    expect(linesOf(begun)[0]).toMatch(line ?? "");
    expect([ended.status, ended.stderr, left]).toEqual([0, "", []]);
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
