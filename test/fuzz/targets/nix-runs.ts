import { mkdir } from "node:fs/promises";
import path from "node:path";

import {
  createTemporaryDirectory,
  findNixVersions,
  type NixVersion,
  runCommand,
  type CommandResult,
} from "@glorious/testkit";

/** Every Nix of this machine, each with a home of its own, and a folder for what they write. */
export interface NixRuns extends AsyncDisposable {
  readonly versions: readonly NixVersion[];
  /** A name in the folder that nothing has. */
  fresh(): string;
  /** What it said; `undefined` when it did not end in time, as with a NAR that claims to be gigabytes. */
  run(
    nix: NixVersion,
    command: string,
    args: readonly string[],
    input?: Buffer,
  ): Promise<CommandResult | undefined>;
}

export async function openNixRuns(): Promise<NixRuns | { readonly missing: string }> {
  const versions = findNixVersions();
  if (versions.length === 0) return { missing: "there is no Nix" };
  const temporary = await createTemporaryDirectory("flywheel-fuzz-nix-");
  const home = path.join(temporary.path, "home");
  await mkdir(home);
  let count = 0;
  return {
    versions,
    fresh: () => path.join(temporary.path, String((count += 1))),
    run: (nix, command, args, input = Buffer.alloc(0)) =>
      runCommand(path.join(nix.binDirectory, command), args, {
        input,
        timeoutMs: 5000,
        cwd: temporary.path,
        env: {
          PATH: process.env["PATH"],
          HOME: home,
          XDG_CACHE_HOME: path.join(home, nix.version),
          NIX_CONF_DIR: home,
          NIX_USER_CONF_FILES: "",
          NIX_REMOTE: "",
        },
      }).catch((error: unknown) => {
        if (String(error).includes("did not end")) return undefined;
        throw error;
      }),
    [Symbol.asyncDispose]: () => temporary[Symbol.asyncDispose](),
  };
}
