import { chmod, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";

import { OFFLINE_MODULES, OFFLINE_REPOSITORIES } from "./bazel-offline-modules.ts";
import { enterDebianRoot, runInDebianRoot } from "./debian-root.ts";
import type { BazelVersion } from "./find-bazel-versions.ts";
import type { CommandResult } from "./run-command.ts";
import { createTemporaryDirectory } from "./temporary-directory.ts";

/** What a Bazel command left behind. */
export interface BazelResult extends CommandResult {
  /** How many actions ran which way, as Bazel sums them up: `remote cache hit`, `local`, `internal`… */
  readonly processes: Readonly<Record<string, number>>;
}

/** How to run one Bazel command. */
export interface BazelCommandOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** After this time it is killed and the call rejects; default 120 000. */
  readonly timeoutMs?: number;
}

/**
 * A Bazel workspace with a home, a configuration and an output base of its own, for one Bazel version. It builds
 * offline: rules that Bazel would download are replaced by stand-ins.
 */
export interface BazelWorkspace extends AsyncDisposable {
  readonly bazel: BazelVersion;
  /** The workspace's folder. */
  readonly directory: string;
  readonly home: string;
  /** For the PATH of a job: its `bazel` is this version, in the job's own folder and home. */
  readonly commandDirectory: string;
  /** The environment of every command. */
  readonly env: Readonly<Record<string, string>>;
  /** Writes files, by their paths in the workspace; those ending in `.sh` are made executable. */
  write(files: Readonly<Record<string, string>>): Promise<void>;
  /** Runs `bazel <args>`; never throws for its exit status. */
  run(args: readonly string[], options?: BazelCommandOptions): Promise<BazelResult>;
  /** Forgets everything that was built here: what comes next is built anew or comes from a cache. */
  clean(): Promise<void>;
  /** Reads an output, by its path under `bazel-bin`. */
  readOutput(name: string): Promise<Buffer>;
}

/** What an output base holds of builds; the rest are repositories, which outlive a `clean`. */
const BUILT = ["execroot", "action_cache"];

/** For a Java that lives through one short command: it compiles quickly rather than well, and collects in one thread. */
const JAVA_OPTIONS = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];

/** Creates a workspace without targets. */
export async function createBazelWorkspace(bazel: BazelVersion): Promise<BazelWorkspace> {
  await using resources = new AsyncDisposableStack();
  const base = resources.use(await createTemporaryDirectory("flywheel-bazel-")).path;
  const directory = path.join(base, "workspace");
  const home = path.join(base, "home");
  const env = {
    HOME: home,
    USER: "tester",
    JAVA_HOME: bazel.javaHome,
    PATH: "/usr/bin:/bin:/usr/sbin:/sbin",
    LC_ALL: "C.UTF-8",
  };
  await mkdir(home, { recursive: true });
  const commandDirectory = path.join(base, "bin");
  await writeFiles(commandDirectory, { bazel: formatCommand(bazel, env) });
  await chmod(path.join(commandDirectory, "bazel"), 0o755);
  const write = (files: Readonly<Record<string, string>>): Promise<void> =>
    writeFiles(directory, files);
  await write(await prepareOffline(bazel, base));

  const run = async (
    args: readonly string[],
    options: BazelCommandOptions = {},
  ): Promise<BazelResult> => {
    const result = await runInDebianRoot(bazel.root, "bazel", args, {
      cwd: directory,
      env: { ...env, ...options.env },
      timeoutMs: options.timeoutMs ?? 120_000,
    });
    return { ...result, processes: readProcesses(result.stderr) };
  };
  const output = path.join(base, "output");
  let cleaned = 0;
  const owned = resources.move();
  return {
    bazel,
    directory,
    home,
    commandDirectory,
    env,
    write,
    run,
    async clean() {
      // What `bazel clean` does to a batch Bazel, without the seconds of another start of Java.
      const name = path.join(base, `cleaned-${(cleaned += 1)}`);
      await mkdir(name);
      for (const part of BUILT) {
        await rename(path.join(output, part), path.join(name, part)).catch(ignoreMissing);
      }
      for (const entry of await readdir(directory)) {
        if (entry.startsWith("bazel-")) await rm(path.join(directory, entry));
      }
    },
    readOutput: (name) => readFile(path.join(directory, "bazel-bin", name)),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** A program that runs the version inside of its root, with whatever the caller's variables are otherwise. */
function formatCommand(bazel: BazelVersion, env: Readonly<Record<string, string>>): string {
  const { command, args } = enterDebianRoot(bazel.root, "bazel", []);
  const words = [command, ...args].map((word) => `'${word.replaceAll("'", `'\\''`)}'`);
  // Debian's oldest one says no_version, where every release and every launcher tells its number.
  return `#!/bin/sh
if [ "$*" = --version ]; then echo 'bazel ${bazel.version}'; exit; fi
export JAVA_HOME='${env["JAVA_HOME"]}' PATH='${env["PATH"]}' LC_ALL=C.UTF-8 USER=tester
exec ${words.join(" ")} "$@"
`;
}

/** The files of an empty workspace, with the stand-ins of the version in a folder beside it. */
async function prepareOffline(
  { version }: BazelVersion,
  base: string,
): Promise<Record<string, string>> {
  await mkdir(path.join(base, "java"));
  const java = [...JAVA_OPTIONS, `-Djava.io.tmpdir=${base}/java`];
  const startup = `startup --batch --output_base=${base}/output
startup ${java.map((option) => `--host_jvm_args=${option}`).join(" ")}
build --spawn_strategy=local
`;
  const hasModules = Number(version.split(".")[0]) >= 7;
  const parts = hasModules ? OFFLINE_MODULES : OFFLINE_REPOSITORIES;
  const option = hasModules ? "override_module" : "override_repository";
  let rc = startup;
  for (const [name, files] of Object.entries(parts)) {
    await writeFiles(path.join(base, "rules", name), files);
    rc += `common --${option}=${name}=${base}/rules/${name}\n`;
  }
  if (!hasModules) return { WORKSPACE: "", ".bazelrc": rc };
  return {
    "MODULE.bazel": `module(name = "workspace")\nbazel_dep(name = "rules_cc", version = "")\n`,
    ".bazelrc": `${rc}common --noenable_workspace\n`,
  };
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
}

async function writeFiles(
  directory: string,
  files: Readonly<Record<string, string>>,
): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    const file = path.join(directory, name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, text, { mode: name.endsWith(".sh") ? 0o755 : 0o644 });
  }
}

/** Reads `INFO: 15 processes: 8 internal, 7 remote cache hit.` */
function readProcesses(text: string): Record<string, number> {
  const summary = [...text.matchAll(/^INFO: \d+ process(?:es)?: (.+)\.$/gm)].at(-1)?.[1] ?? "";
  return Object.fromEntries(
    [...summary.matchAll(/(\d+) ([^,]+)/g)].map(([, count, kind]) => [kind, Number(count)]),
  );
}
