import { lstat } from "node:fs/promises";
import { join } from "node:path";

import {
  besideNix,
  NIX_COMMAND,
  runProgram,
  type RunProgramOptions,
  whatNixSaid,
} from "@glorious/cache-client";
import { CacheError } from "@glorious/core";

/** The Nix store of this machine, as far as watching it needs. */
export interface LocalStore {
  readonly storeDir: string;
  /** The base names of all valid paths. @throws {CacheError} `CONFIG` when Nix does not tell. */
  listValid(): Promise<Set<string>>;
  /** Of these base names those that are valid and not being made anew. */
  keepValid(names: readonly string[]): Promise<string[]>;
}

/** Far below what a process may be given as arguments. */
const MAX_ARGUMENTS = 500;

export function openLocalStore(nix: string, storeDir: string, run: RunProgramOptions): LocalStore {
  return {
    storeDir,
    async listValid() {
      const output = await runProgram(nix, [...NIX_COMMAND, "path-info", "--all"], run);
      if (output.exitCode !== 0) {
        throw new CacheError("CONFIG", `Nix does not list its store: ${whatNixSaid(output)}`);
      }
      const prefix = `${storeDir}/`;
      const names = output.stdout.split("\n").filter((line) => line.startsWith(prefix));
      return new Set(names.map((line) => line.slice(prefix.length)));
    },
    async keepValid(names) {
      const valid: string[] = [];
      for (let start = 0; start < names.length; start += MAX_ARGUMENTS) {
        const chunk = await keepUnlocked(storeDir, names.slice(start, start + MAX_ARGUMENTS));
        const paths = chunk.map((name) => `${storeDir}/${name}`);
        if (paths.length === 0) continue;
        const command = besideNix(nix, "nix-store");
        const output = await runProgram(
          command,
          ["--check-validity", "--print-invalid", ...paths],
          run,
        );
        if (output.exitCode !== 0) {
          throw new CacheError("CONFIG", `Nix does not tell what is valid: ${whatNixSaid(output)}`);
        }
        const invalid = new Set(output.stdout.split("\n"));
        valid.push(...chunk.filter((name) => !invalid.has(`${storeDir}/${name}`)));
      }
      return valid;
    },
  };
}

/** A path whose lock is still there is not done; the lock's removal will be seen. */
async function keepUnlocked(storeDir: string, names: readonly string[]): Promise<string[]> {
  const locks = await Promise.all(
    names.map((name) =>
      lstat(join(storeDir, `${name}.lock`)).then(
        () => true,
        () => false,
      ),
    ),
  );
  return names.filter((_, index) => locks[index] === false);
}
