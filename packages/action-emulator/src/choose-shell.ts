import { existsSync } from "node:fs";
import path from "node:path";

const BASH_OPTIONS = ["--noprofile", "--norc", "-eo", "pipefail"];

/** A shell's program and what stands before the script's name. */
export interface Shell {
  readonly command: "bash" | "sh";
  readonly args: readonly string[];
}

/** The shell that a runner takes: `bash` unless the step names another, and `sh` on a machine that has no `bash`. */
export function chooseShell(wanted: "bash" | "sh" | undefined, searchPath: string): Shell {
  const hasBash = searchPath.split(":").some((folder) => existsSync(path.join(folder, "bash")));
  // A step that names it fails without it, as on the real runner.
  if (wanted === "bash" || (wanted === undefined && hasBash)) {
    return { command: "bash", args: BASH_OPTIONS };
  }
  return { command: "sh", args: ["-e"] };
}
