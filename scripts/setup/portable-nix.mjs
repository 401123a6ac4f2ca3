import { existsSync } from "node:fs";
import {
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import path from "node:path";
import process from "node:process";

import { cacheDirectory } from "./checkout.mjs";
import { capture, findOnPath, isExecutableFile, lastLines } from "./command.mjs";
import { readOsRelease } from "./debian-packages.mjs";
import { moveIntoPlace, removeAbandoned } from "./toolchain.mjs";

/** The Nix versions the tests drive beside the machine's own, and the Debian suites that carry them. */
export const PORTABLE_NIX = [
  { version: "2.26", suites: ["trixie"] },
  { version: "2.34", suites: ["forky", "sid"] },
];
/** Debian's keys, under the name of today and of before; without either, apt's own trusted keys decide. */
const KEYRINGS = ["pgp", "gpg"].map((it) => `/usr/share/keyrings/debian-archive-keyring.${it}`);
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

/**
 * The machine's own Debian mirror, as its apt sources name it.
 *
 * @returns {Promise<{ mirror: string } | { reason: string }>}
 */
async function findDebianMirror() {
  const { id, codename } = await readOsRelease();
  const missing = ["apt-get", "apt-cache", "dpkg-deb"].filter((it) => findOnPath(it) === undefined);
  if (id !== "debian" || missing.length > 0) {
    return { reason: "it comes from Debian's packages, and this is no Debian" };
  }
  const mirror = (await readAptSources()).find(
    (source) => source.suites.includes(codename) && source.components.includes("main"),
  )?.uri;
  if (mirror !== undefined) return { mirror };
  return { reason: `the machine's apt sources name no mirror for ${codename} main` };
}

/** Every source of binary packages in the machine's apt configuration, in both of its notations. */
async function readAptSources() {
  const directory = "/etc/apt/sources.list.d";
  const names = await readdir(directory).catch(() => []);
  const files = [
    "/etc/apt/sources.list",
    ...names.sort().map((name) => path.join(directory, name)),
  ];
  const sources = [];
  for (const file of files) {
    const text = await readFile(file, "utf8").catch(() => "");
    if (file.endsWith(".list")) sources.push(...parseOneLineSources(text));
    else if (file.endsWith(".sources")) sources.push(...parseDeb822Sources(text));
  }
  return sources;
}

function parseOneLineSources(text) {
  const lines = [...text.matchAll(/^\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+([^#\n]+)/gm)];
  return lines.map(([, uri, suite, components]) => ({
    uri,
    suites: [suite],
    components: components.trim().split(/\s+/),
  }));
}

function parseDeb822Sources(text) {
  const withoutComments = text.replaceAll(/^#.*\n/gm, "");
  return withoutComments.split(/\n\s*\n/).flatMap((stanza) => {
    const words = (field) =>
      new RegExp(`^${field}:((?:[^\n]*\n?)(?:[ \t]+[^\n]*\n?)*)`, "im")
        .exec(stanza)?.[1]
        ?.trim()
        .split(/\s+/) ?? [];
    if (!words("Types").includes("deb") || words("Enabled")[0] === "no") return [];
    const [suites, components] = [words("Suites"), words("Components")];
    return words("URIs").map((uri) => ({ uri, suites, components }));
  });
}

async function buildPortableNix({ version, suite, mirror, work, directory }) {
  const apt = await createPrivateApt({ suite, mirror, work });
  const update = await apt("apt-get", "update", "--error-on=any");
  if (update.status !== 0)
    return `its package lists could not be fetched:\n${lastLines(update, 4)}`;
  const policy = await apt("apt-cache", "policy", "nix-bin");
  const candidate = /Candidate: (\S+)/.exec(policy.stdout)?.[1] ?? "none";
  if (!candidate.startsWith(`${version}.`)) return `it has nix-bin ${candidate}, not ${version}`;
  const download = await apt(
    "apt-get",
    "install",
    "--yes",
    "--download-only",
    "--no-install-recommends",
    "nix-bin",
    "patchelf",
  );
  if (download.status !== 0) return `nix-bin could not be fetched:\n${lastLines(download, 4)}`;

  const unpacked = path.join(work, "unpacked");
  await mkdir(unpacked);
  const archives = path.join(work, "archives");
  for (const name of (await readdir(archives)).filter((it) => it.endsWith(".deb"))) {
    const unpack = await capture("dpkg-deb", ["--extract", path.join(archives, name), unpacked]);
    if (unpack.status !== 0) return `${name} could not be unpacked:\n${lastLines(unpack, 4)}`;
  }
  return assemble({ unpacked, target: path.join(work, "nix"), directory });
}

/** apt with lists, cache and an empty status of its own: it resolves against the suite alone. */
async function createPrivateApt({ suite, mirror, work }) {
  for (const name of ["lists/partial", "archives/partial"]) {
    await mkdir(path.join(work, name), { recursive: true });
  }
  const keyring = KEYRINGS.find((file) => existsSync(file));
  const options = keyring === undefined ? "" : `[signed-by=${keyring}] `;
  await writeFile(path.join(work, "sources.list"), `deb ${options}${mirror} ${suite} main\n`);
  await writeFile(path.join(work, "status"), "");
  const settings = {
    "Dir::Etc::SourceList": path.join(work, "sources.list"),
    "Dir::Etc::SourceParts": "/dev/null",
    "Dir::Etc::Preferences": "/dev/null",
    "Dir::Etc::PreferencesParts": "/dev/null",
    "Dir::State": work,
    "Dir::State::Lists": path.join(work, "lists"),
    "Dir::State::Status": path.join(work, "status"),
    "Dir::Cache": work,
    "Dir::Cache::Archives": path.join(work, "archives"),
    "Acquire::Languages": "none",
    // Debian's unstable suite may be past its own Valid-Until on a mirror that is a snapshot.
    "Acquire::Check-Valid-Until": "false",
    "Acquire::Retries": "2",
    // Root's cache folder is not readable for apt's own user.
    "APT::Sandbox::User": "",
    "Debug::NoLocking": "true",
  };
  const file = path.join(work, "apt.conf");
  await writeFile(
    file,
    `#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n#clear DPkg::Post-Invoke;\n` +
      Object.entries(settings)
        .map(([name, value]) => `${name} "${value}";\n`)
        .join(""),
  );
  return (command, ...args) =>
    capture(command, args, { env: { ...process.env, APT_CONFIG: file, LC_ALL: "C.UTF-8" } });
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
