import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { type CommandResult, createTemporaryDirectory, runCommand } from "@glorious/testkit";

const TSC = fileURLToPath(new URL("../../node_modules/typescript/bin/tsc", import.meta.url));

/** Somebody's project, with nothing in it but what npm installs. */
export interface EmptyProject extends AsyncDisposable {
  readonly directory: string;
  /** Installs packages by their names. @throws {Error} when npm fails. */
  install(names: readonly string[]): Promise<void>;
  /** Runs a command there, in a home of its own. */
  run(
    command: string,
    args: readonly string[],
    env?: Readonly<Record<string, string>>,
  ): Promise<CommandResult>;
  /** Writes the first example of an installed package's README into a file, and returns its name. */
  pasteExample(name: string): Promise<string>;
  /** Checks the types of files, those of the packages included. */
  checkTypes(files: readonly string[]): Promise<CommandResult>;
}

/** Creates a project that installs from a registry and from nowhere else. */
export async function createEmptyProject(registry: string): Promise<EmptyProject> {
  const folder = await createTemporaryDirectory("flywheel-consumer-");
  const directory = path.join(folder.path, "project");
  const home = path.join(folder.path, "home");
  await mkdir(directory);
  await mkdir(home);
  await writeFile(path.join(directory, "package.json"), `{"private":true,"type":"module"}\n`);
  const env = {
    PATH: `${path.dirname(process.execPath)}${path.delimiter}${process.env["PATH"] ?? ""}`,
    HOME: home,
    npm_config_registry: registry,
    npm_config_update_notifier: "false",
  };
  const project: EmptyProject = {
    directory,
    async install(names) {
      const args = ["install", "--no-audit", "--no-fund", "--ignore-scripts", ...names];
      const { status, stdout, stderr } = await project.run("npm", args);
      if (status !== 0) throw new Error(`npm ${args.join(" ")}: ${stdout}${stderr}`);
    },
    run: (command, args, more = {}) =>
      runCommand(command, args, { cwd: directory, env: { ...env, ...more } }),
    async pasteExample(name) {
      const readme = path.join(directory, "node_modules", name, "README.md");
      const [, example] = /^```ts\n([^]*?)^```$/m.exec(await readFile(readme, "utf8")) ?? [];
      if (example === undefined) throw new Error(`The README of ${name} has no example`);
      const file = `${name.replace("@glorious/", "")}.example.ts`;
      await writeFile(path.join(directory, file), example);
      return file;
    },
    checkTypes: (files) =>
      project.run(process.execPath, [
        TSC,
        ...["--noEmit", "--strict", "--module", "nodenext", "--types", "node"],
        ...["--target", "es2024", "--lib", "es2024,esnext.disposable"],
        ...files,
      ]),
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
  return project;
}
