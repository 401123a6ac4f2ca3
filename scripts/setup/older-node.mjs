import { copyFile, mkdir, mkdtemp, rm } from "node:fs/promises";
import path from "node:path";
import process from "node:process";

import { cacheDirectory, rootDirectory } from "./checkout.mjs";
import { capture, findOnPath, isExecutableFile, lastLines } from "./command.mjs";
import { environmentForNpm, moveIntoPlace, removeAbandoned } from "./toolchain.mjs";

const LOCKED = path.join(rootDirectory, "scripts", "older-node");

/** The oldest line that the bundles run on is the last of them. */
const LINES = [16, 18, 20, 22];

/** The folder of older lines of Node; a program is `node_modules/node-<line>-linux-<arch>/bin/node`. */
export function olderNodeDirectory() {
  return path.join(cacheDirectory(), "tools", "older-nodes");
}

/**
 * Brings the lines of Node that runners may have for the bundles of the actions, as their lockfile pins them.
 *
 * @param {(line: string) => void} say
 * @returns {Promise<string | undefined>} why it is not there
 */
export async function bringOlderNode(say) {
  const directory = olderNodeDirectory();
  const nodes = LINES.map((line) =>
    path.join("node_modules", `node-${line}-linux-${process.arch}`, "bin", "node"),
  );
  const isComplete = () => nodes.every((node) => isExecutableFile(path.join(directory, node)));
  if (isComplete()) return undefined;
  const npm = findOnPath("npm");
  if (npm === undefined) return "npm is not on PATH";
  say(`Installing Node ${LINES.join(", ")} into ${directory}`);
  const parent = path.dirname(directory);
  await mkdir(parent, { recursive: true });
  await removeAbandoned(parent);
  const temporary = await mkdtemp(`${directory}.tmp-`);
  try {
    for (const name of ["package.json", "package-lock.json"]) {
      await copyFile(path.join(LOCKED, name), path.join(temporary, name));
    }
    const quiet = ["--no-audit", "--no-fund", "--no-update-notifier"];
    const args = ["ci", "--prefix", temporary, "--ignore-scripts", "--include=optional", ...quiet];
    const result = await capture(npm, args, { cwd: temporary, env: environmentForNpm() });
    if (result.status !== 0) return `npm could not install them:\n${lastLines(result, 4)}`;
    for (const node of nodes) {
      const check = await capture(path.join(temporary, node), ["--version"]);
      if (check.status !== 0) return `${node} does not run here:\n${lastLines(check)}`;
    }
    await moveIntoPlace(temporary, directory, isComplete);
    return undefined;
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}
