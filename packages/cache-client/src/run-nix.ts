import { basename, dirname, join } from "node:path";

import type { ProgramOutput } from "./run-program.ts";

/** Nix's new commands, without having to be switched on. */
export const NIX_COMMAND: readonly string[] = ["--extra-experimental-features", "nix-command"];

/** `nix-store` and the other old commands lie beside `nix`. */
export function besideNix(nix: string, name: string): string {
  return basename(nix) === nix ? name : join(dirname(nix), name);
}

/** Nix's own words for a failure, on one line and without colours. */
export function whatNixSaid({ stderr, exitCode }: ProgramOutput): string {
  const lines = stderr
    // oxlint-disable-next-line no-control-regex -- colours are control characters.
    .replaceAll(/\u001B\[[0-9;]*m/g, "")
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !/^(warning:|\(?(try|use) ')/i.test(line));
  const error = lines.find((line) => line.startsWith("error:")) ?? lines.at(-1);
  return error?.replace(/^error:\s*/, "") ?? `exit code ${exitCode}`;
}
