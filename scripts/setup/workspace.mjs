import { createHash } from "node:crypto";
import { mkdir, open, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";

import { binDirectory, cacheDirectory, rootDirectory, stampDirectory } from "./checkout.mjs";
import { capture, isExecutableFile, lastLines } from "./command.mjs";
import { SetUpFailure } from "./failure.mjs";
import { openToolchain, toolchainLockFile } from "./toolchain.mjs";

const workspaceLockFile = path.join(rootDirectory, "pnpm-lock.yaml");
/** The copies that `bin/flywheel` compares with the files in the checkout. */
const stamps = [
  [workspaceLockFile, path.join(stampDirectory, "pnpm-lock.yaml")],
  [toolchainLockFile, path.join(stampDirectory, "toolchain-lock.json")],
];
const nodeStamp = path.join(stampDirectory, "node");
const pnpmStamp = path.join(stampDirectory, "pnpm");
const LOCK_MAX_AGE_MS = 30 * 60_000;

/**
 * Makes the checkout ready to run: Node, pnpm, the workspace's packages. Does nothing when it is ready.
 *
 * @param {(line: string) => void} say told in plain lines what is installed, and where
 * @returns {Promise<{ node: string, pnpm: string }>} full paths
 */
export async function setUpWorkspace(say) {
  return (
    (await readStamps()) ??
    (await withLock(say, async () => (await readStamps()) ?? (await install(say))))
  );
}

/** The environment in which commands find the packages' commands, and the Node and pnpm that fit them. */
export function workspaceEnvironment() {
  return { ...process.env, PATH: [binDirectory, process.env.PATH].join(path.delimiter) };
}

async function readStamps() {
  try {
    for (const [file, stamp] of stamps) {
      if (!(await readFile(file)).equals(await readFile(stamp))) return undefined;
    }
    const [node, pnpm] = await Promise.all(
      [nodeStamp, pnpmStamp].map(async (file) => (await readFile(file, "utf8")).trimEnd()),
    );
    return isExecutableFile(node) && isExecutableFile(pnpm) ? { node, pnpm } : undefined;
  } catch (error) {
    if (error.code === "ENOENT") return undefined;
    throw error;
  }
}

async function install(say) {
  // Read before the install: an edit meanwhile must not pass for installed.
  const copies = await Promise.all(
    stamps.map(async ([file, stamp]) => [stamp, await readFile(file)]),
  );
  const toolchain = await openToolchain(say);
  await rm(stampDirectory, { recursive: true, force: true });

  say(`Installing the workspace's packages into ${path.join(rootDirectory, "node_modules")}`);
  const result = await capture(toolchain.pnpm, ["install", "--frozen-lockfile"], {
    cwd: rootDirectory,
    // CI: pnpm asks no questions. The other: what npm knows of this project is not pnpm's business.
    env: {
      ...process.env,
      PATH: [path.dirname(toolchain.node), process.env.PATH].join(path.delimiter),
      CI: "true",
      npm_config_local_prefix: "",
    },
  });
  if (result.status !== 0) {
    throw new SetUpFailure(
      `pnpm could not install the workspace's packages:\n${lastLines(result, 20)}`,
    );
  }
  // What vitest keeps names files of packages by paths that an install may have changed.
  const stale = path.join(rootDirectory, "node_modules", ".vitest-cache");
  await rm(stale, { recursive: true, force: true });
  await linkIntoBin("node", toolchain.node);
  await linkIntoBin("pnpm", toolchain.pnpm);

  await mkdir(stampDirectory, { recursive: true });
  await writeFile(nodeStamp, `${toolchain.node}\n`);
  await writeFile(pnpmStamp, `${toolchain.pnpm}\n`);
  for (const [stamp, bytes] of copies) await writeFile(stamp, bytes);
  return toolchain;
}

/** npm puts `node_modules/.bin` first on PATH, so that `npm run check` and its like get these too. */
async function linkIntoBin(name, target) {
  const link = path.join(binDirectory, name);
  await mkdir(binDirectory, { recursive: true });
  await rm(link, { force: true });
  await symlink(target, link);
}

async function withLock(say, work) {
  const name = createHash("sha256").update(rootDirectory).digest("hex").slice(0, 16);
  const file = path.join(cacheDirectory(), `set-up-${name}.lock`);
  await mkdir(path.dirname(file), { recursive: true });
  let hasSaidWait = false;
  for (;;) {
    try {
      const handle = await open(file, "wx");
      await handle.writeFile(`${process.pid}\n`);
      await handle.close();
      break;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
    if (await isAbandoned(file)) {
      await rm(file, { force: true });
      continue;
    }
    if (!hasSaidWait) say("Another set-up of this checkout is running; waiting for it");
    hasSaidWait = true;
    await delay(200);
  }
  try {
    return await work();
  } finally {
    await rm(file, { force: true });
  }
}

async function isAbandoned(file) {
  const info = await stat(file).catch(() => undefined);
  if (info === undefined) return false;
  const ageMs = Date.now() - info.mtimeMs;
  if (ageMs > LOCK_MAX_AGE_MS) return true;
  const pid = Number.parseInt(await readFile(file, "utf8").catch(() => ""), 10);
  // Its owner creates the file and then writes its pid: young and empty means just taken.
  if (Number.isNaN(pid)) return ageMs > 5000;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return error.code === "ESRCH";
  }
}
