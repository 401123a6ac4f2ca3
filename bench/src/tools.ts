import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { findNixVersions, type NixVersion } from "@glorious/testkit";

import { output } from "./command.ts";
import { cacheDirectory } from "./machine.ts";

/** The programs a run needs beside our own. */
export interface Tools {
  readonly nginx: string;
  readonly wrk: string;
  /** The newest Nix found; it copies. */
  readonly nix: NixVersion;
  /** Where the libraries of nginx and wrk are, beside the machine's own. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** @throws {Error} naming what is missing and how to bring it. */
export async function openTools(say: (line: string) => void): Promise<Tools> {
  const directory = path.join(cacheDirectory(), "tools", "debian");
  if (!existsSync(path.join(directory, "usr/sbin/nginx"))) {
    say("bringing nginx and wrk (pnpm tools)");
    const script = fileURLToPath(new URL("../../scripts/tools.mjs", import.meta.url));
    await output(process.execPath, [script]);
  }
  const nix = findNixVersions().at(-1);
  if (nix === undefined) throw new Error("There is no Nix here: run `pnpm tools`, as root");
  for (const command of ["curl", "zstd", "openssl", "bash", "dd"]) {
    await output("bash", ["-c", `command -v ${command}`]).catch(() => {
      throw new Error(`The bench needs ${command} on PATH`);
    });
  }
  const libraries = path.join(directory, "usr/lib");
  const architectures = (await readdir(libraries)).map((name) => path.join(libraries, name));
  return {
    nginx: path.join(directory, "usr/sbin/nginx"),
    wrk: path.join(directory, "usr/bin/wrk"),
    nix,
    env: { ...process.env, LD_LIBRARY_PATH: architectures.join(":") },
  };
}
