import { randomUUID } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";

import { type FileCommandEntry, parseFileCommand, parsePathFile } from "./file-command.ts";

/** What a step asked for through its files. */
export interface StepWishes {
  readonly env: readonly FileCommandEntry[];
  readonly outputs: readonly FileCommandEntry[];
  readonly state: readonly FileCommandEntry[];
  readonly path: readonly string[];
  readonly summary: string;
}

/** The empty files that a step may write to. */
export interface StepFiles {
  /** The variables that name them. */
  readonly env: Readonly<Record<string, string>>;
  /** @throws {CacheError} `INVALID` when a file is not well formed. */
  read(): Promise<StepWishes>;
  remove(): Promise<void>;
}

const NAMES = ["ENV", "OUTPUT", "STATE", "PATH", "STEP_SUMMARY"] as const;

/** Creates the files of one step. */
export async function createStepFiles(temp: string): Promise<StepFiles> {
  const folder = path.join(temp, "_runner_file_commands");
  await mkdir(folder, { recursive: true });
  const id = randomUUID();
  const fileOf = (name: (typeof NAMES)[number]): string =>
    path.join(folder, `${name.toLowerCase()}_${id}`);
  for (const name of NAMES) await writeFile(fileOf(name), "");
  const textOf = (name: (typeof NAMES)[number]): Promise<string> =>
    readFile(fileOf(name), "utf8").catch(() => "");
  return {
    env: Object.fromEntries(NAMES.map((name) => [`GITHUB_${name}`, fileOf(name)])),
    async read() {
      return {
        env: parseFileCommand(await textOf("ENV")),
        outputs: parseFileCommand(await textOf("OUTPUT")),
        state: parseFileCommand(await textOf("STATE")),
        path: parsePathFile(await textOf("PATH")),
        summary: await textOf("STEP_SUMMARY"),
      };
    },
    async remove() {
      for (const name of NAMES) await rm(fileOf(name), { force: true });
    },
  };
}
