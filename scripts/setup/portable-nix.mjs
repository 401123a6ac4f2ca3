import { chmod, copyFile, mkdir, mkdtemp, readdir, rm, symlink } from "node:fs/promises";
import path from "node:path";

import { cacheDirectory } from "./checkout.mjs";
import { capture, isExecutableFile, lastLines } from "./command.mjs";
import { createPrivateApt, findDebianMirror, unpackPackages } from "./private-apt.mjs";
import { moveIntoPlace, removeAbandoned } from "./toolchain.mjs";

/** The Nix versions the tests drive beside the machine's own, and the Debian suites that carry them. */
export const PORTABLE_NIX = [
  { version: "2.26", suites: ["trixie"] },
  { version: "2.34", suites: ["forky", "sid"] },
];
/** Nix is one program that looks at the name it was called by. */
const OTHER_NAMES = [
  "nix-build",
  "nix-collect-garbage",
  "nix-daemon",
  "nix-env",
  "nix-hash",
  "nix-instantiate",
  "nix-shell",
  "nix-store",
];

/** The folder of one portable Nix; its commands are in `bin`. */
export function portableNixDirectory(version) {
  return path.join(cacheDirectory(), "tools", `nix-${version}`);
}

/**
 * Brings one Nix version from Debian's mirror into the user's cache folder: the program and every library
 * it needs, made to use each other, so that it runs on an older Debian beside the machine's own Nix.
 * apt-get fetches and checks the packages with a private state; they are unpacked, not installed, so
 * nothing here needs root.
 *
 * @param {(line: string) => void} say
 * @returns {Promise<string | undefined>} why it is not there
 */
export async function bringPortableNix({ version, suites }, say) {
  const directory = portableNixDirectory(version);
  if (isExecutableFile(path.join(directory, "bin", "nix"))) return undefined;
  const found = await findDebianMirror();
  if ("reason" in found) return found.reason;

  say(`Bringing Nix ${version} from Debian's ${suites.join(" or ")} into ${directory}`);
  const parent = path.dirname(directory);
  await mkdir(parent, { recursive: true });
  await removeAbandoned(parent);
  const temporary = await mkdtemp(`${directory}.tmp-`);
  const reasons = [];
  try {
    for (const suite of suites) {
      const work = path.join(temporary, suite);
      const reason = await buildPortableNix({ ...found, version, suite, work, directory });
      if (reason === undefined) {
        await moveIntoPlace(path.join(work, "nix"), directory, () => true);
        return undefined;
      }
      reasons.push(`${suite}: ${reason}`);
    }
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  return reasons.join("; ");
}

async function buildPortableNix({ version, suite, mirror, work, directory }) {
  const apt = await createPrivateApt({ suite, mirror, work });
  const update = await apt("apt-get", "update", "--error-on=any");
  if (update.status !== 0)
    return `its package lists could not be fetched:\n${lastLines(update, 4)}`;
  const policy = await apt("apt-cache", "policy", "nix-bin");
  const candidate = /Candidate: (\S+)/.exec(policy.stdout)?.[1] ?? "none";
  if (!candidate.startsWith(`${version}.`)) return `it has nix-bin ${candidate}, not ${version}`;
  const unpacked = path.join(work, "unpacked");
  const reason = await unpackPackages({ apt, work, packages: ["nix-bin", "patchelf"], unpacked });
  if (reason !== undefined) return reason;
  return assemble({ unpacked, target: path.join(work, "nix"), directory });
}

async function assemble({ unpacked, target, directory }) {
  const files = await listFiles(unpacked);
  const libraryDirectories = [
    ...new Set(files.filter((file) => /\.so(\.|$)/.test(file)).map((file) => path.dirname(file))),
  ].filter((it) => /\/lib(64)?(\/[^/]*-linux-gnu[^/]*)?$/.test(it));
  const loader = files.find((file) => /\/ld-linux[^/]*\.so\.\d$/.test(file));
  const nix = path.join(unpacked, "usr", "bin", "nix");
  if (loader === undefined || !files.includes(nix)) return "its packages hold no Nix and no loader";
  await chmod(loader, 0o755);
  const run = (...args) =>
    capture(loader, ["--library-path", libraryDirectories.join(":"), ...args]);

  const list = await run("--list", nix);
  if (list.status !== 0 || list.stdout.includes("not found"))
    return `libraries are missing:\n${lastLines(list)}`;
  await mkdir(path.join(target, "bin"), { recursive: true });
  await mkdir(path.join(target, "lib"));
  for (const match of list.stdout.matchAll(/^\s*(\S+) => (\/.+) \(0x/gm)) {
    await copyFile(match[2], path.join(target, "lib", path.basename(match[1])));
  }
  const loaderName = path.basename(loader);
  await copyFile(loader, path.join(target, "lib", loaderName));
  await copyFile(nix, path.join(target, "bin", "nix"));
  for (const name of OTHER_NAMES) await symlink("nix", path.join(target, "bin", name));

  // An old-style RPATH, because libraries inherit it; only for Nix itself, for the same reason. It names
  // the final folder: the renaming that publishes the folder must not break it.
  const patch = await run(
    path.join(unpacked, "usr", "bin", "patchelf"),
    "--set-interpreter",
    path.join(directory, "lib", loaderName),
    "--force-rpath",
    "--set-rpath",
    path.join(directory, "lib"),
    path.join(target, "bin", "nix"),
  );
  if (patch.status !== 0) return `patchelf failed:\n${lastLines(patch)}`;
  const check = await capture(path.join(target, "lib", loaderName), [
    "--library-path",
    path.join(target, "lib"),
    path.join(target, "bin", "nix"),
    "--version",
  ]);
  return check.status === 0 ? undefined : `it does not run here:\n${lastLines(check)}`;
}

async function listFiles(directory) {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() || entry.isSymbolicLink())
    .map((entry) => path.join(entry.parentPath ?? entry.path, entry.name));
}
