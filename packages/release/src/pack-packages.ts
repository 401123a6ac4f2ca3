import { rm } from "node:fs/promises";
import path from "node:path";

import type { PublicPackage } from "./require-releasable.ts";
import { runCommand } from "./run-command.ts";

/** Builds the packages from nothing and packs each into a folder, as a registry takes it. */
export async function packPackages(
  root: string,
  packages: readonly PublicPackage[],
  target: string,
): Promise<void> {
  // What an earlier build left behind would be packed too.
  for (const { directory } of packages) {
    await rm(path.join(directory, "dist"), { recursive: true, force: true });
  }
  const filters = packages.map(({ name }) => `--filter=${name}`);
  await runCommand("pnpm", ["--recursive", ...filters, "run", "build"], { cwd: root });
  for (const { directory } of packages) {
    await runCommand("pnpm", ["pack", "--pack-destination", target], { cwd: directory });
  }
}
