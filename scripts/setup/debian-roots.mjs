import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import path from "node:path";

import { cacheDirectory } from "./checkout.mjs";
import { lastLines } from "./command.mjs";
import { createPrivateApt, findDebianMirror, unpackPackages } from "./private-apt.mjs";
import { moveIntoPlace, removeAbandoned } from "./toolchain.mjs";

/** What a root needs to be entered and to compile something. */
const BASE = [
  "base-files",
  "bash",
  "ca-certificates",
  "coreutils",
  "dash",
  "diffutils",
  "findutils",
  "g++",
  "gcc",
  "grep",
  "gzip",
  "libc-bin",
  "mawk",
  "python3-minimal",
  "sed",
  "tar",
  "unzip",
  "util-linux",
  "zip",
];

/** The Debian suites whose Bazel, and other clients of a Bazel cache, the tests drive. */
export const DEBIAN_ROOTS = [
  { suite: "bookworm", tools: ["bazel-bootstrap", "ccache"] },
  { suite: "sid", tools: ["bazel-bootstrap", "buildbox", "sccache"] },
];

/** Nobody reads them here, and they are a fifth of the bytes. */
const UNREAD = ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info"];

/** Says which version of each tool a finished root has; it is written last. */
const VERSIONS_FILE = "versions.json";

/** The folder that is entered as a root directory. */
export function debianRootDirectory(suite) {
  return path.join(cacheDirectory(), "tools", `debian-${suite}`);
}

/**
 * Brings a Debian suite with its Bazel into the user's cache folder, as a root directory to be entered in a
 * mount namespace. The packages are fetched and checked by apt-get with a private state and unpacked, not
 * installed: none of their scripts run, nothing here needs root, and the machine's own packages stay as they are.
 *
 * @param {(line: string) => void} say
 * @returns {Promise<string | undefined>} why it is not there
 */
export async function bringDebianRoot({ suite, tools }, say) {
  const directory = debianRootDirectory(suite);
  const isComplete = () => existsSync(path.join(directory, VERSIONS_FILE));
  if (isComplete()) return undefined;
  const found = await findDebianMirror();
  if ("reason" in found) return found.reason;

  say(`Bringing ${tools.join(", ")} of Debian's ${suite} into ${directory}`);
  const parent = path.dirname(directory);
  await mkdir(parent, { recursive: true });
  await removeAbandoned(parent);
  const work = await mkdtemp(`${directory}.tmp-`);
  try {
    const unpacked = path.join(work, "unpacked");
    const reason = await build({ ...found, suite, tools, work, unpacked });
    if (reason !== undefined) return reason;
    await moveIntoPlace(unpacked, directory, isComplete);
    return undefined;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function build({ mirror, suite, tools, work, unpacked }) {
  const apt = await createPrivateApt({ suite, mirror, work });
  const update = await apt("apt-get", "update", "--error-on=any");
  if (update.status !== 0) {
    return `its package lists could not be fetched:\n${lastLines(update, 4)}`;
  }
  const reason = await unpackPackages({ apt, work, packages: [...BASE, ...tools], unpacked });
  if (reason !== undefined) return reason;
  for (const name of UNREAD) await rm(path.join(unpacked, name), { recursive: true, force: true });
  await linkAlternatives(unpacked);
  const versions = {};
  for (const tool of tools) {
    const policy = await apt("apt-cache", "policy", tool);
    versions[tool] = /Candidate: ([\d.]+)/.exec(policy.stdout)?.[1] ?? "unknown";
  }
  await writeFile(path.join(unpacked, VERSIONS_FILE), `${JSON.stringify(versions)}\n`);
  return undefined;
}

/** Names that only the packages' scripts would make. */
async function linkAlternatives(root) {
  const bin = path.join(root, "usr", "bin");
  const missing = { cc: "gcc", "c++": "g++", awk: "mawk" };
  for (const [name, target] of Object.entries(missing)) {
    if (!existsSync(path.join(bin, name))) await symlink(target, path.join(bin, name));
  }
  // Debian's Bazel looks for it in its own folder only, and says without it that it has no zstd.
  const bazel = path.join(root, "usr", "share", "bazel");
  const libraries = path.join(root, "usr", "lib");
  for (const architecture of await readdir(libraries)) {
    const library = path.join(libraries, architecture, "libzstd-jni.so.1");
    if (existsSync(library)) {
      await symlink(path.relative(bazel, library), path.join(bazel, "libzstd-jni.so"));
    }
  }
}
