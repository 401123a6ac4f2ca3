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
  const unpacked = await openUnpacked(say);
  const nix = findNixVersions().at(-1);
  if (nix === undefined) throw new Error("There is no Nix here: run `pnpm tools`, as root");
  for (const command of ["curl", "zstd", "openssl", "bash", "dd"]) {
    await output("bash", ["-c", `command -v ${command}`]).catch(() => {
      throw new Error(`The bench needs ${command} on PATH`);
    });
  }
  return { ...unpacked, nix };
}

/** The programs that Debian's packages hold, unpacked. */
export async function openUnpacked(
  say: (line: string) => void,
): Promise<Omit<Tools, "nix"> & { readonly h2load: string }> {
  const directory = path.join(cacheDirectory(), "tools", "debian");
  const program = (name: string): string => path.join(directory, "usr", name);
  const tools = {
    nginx: program("sbin/nginx"),
    wrk: program("bin/wrk"),
    h2load: program("bin/h2load"),
  };
  if (!Object.values(tools).every((file) => existsSync(file))) {
    say("bringing nginx, wrk and h2load (pnpm tools)");
    const script = fileURLToPath(new URL("../../scripts/tools.mjs", import.meta.url));
    await output(process.execPath, [script]);
  }
  const libraries = path.join(directory, "usr/lib");
  const architectures = (await readdir(libraries)).map((name) => path.join(libraries, name));
  return { ...tools, env: { ...process.env, LD_LIBRARY_PATH: architectures.join(":") } };
}
