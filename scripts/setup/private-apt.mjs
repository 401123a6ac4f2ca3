import { existsSync } from "node:fs";
import { mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import process from "node:process";

import { capture, findOnPath, lastLines } from "./command.mjs";
import { readOsRelease } from "./debian-packages.mjs";

/** Debian's keys, under the name of today and of before; without either, apt's own trusted keys decide. */
const KEYRINGS = ["pgp", "gpg"].map((it) => `/usr/share/keyrings/debian-archive-keyring.${it}`);

/**
 * The machine's own Debian mirror, as its apt sources name it.
 *
 * @returns {Promise<{ mirror: string } | { reason: string }>}
 */
export async function findDebianMirror() {
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

/**
 * apt with lists, cache and an empty status of its own under `work`: it resolves against the suite alone and
 * needs no root.
 *
 * @returns {Promise<(command: string, ...args: string[]) => ReturnType<typeof capture>>}
 */
export async function createPrivateApt({ suite, mirror, work }) {
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

/**
 * Fetches packages with everything they depend on and unpacks them into one folder, without running any of
 * their scripts.
 *
 * @returns {Promise<string | undefined>} why they are not there
 */
export async function unpackPackages({ apt, work, packages, unpacked }) {
  const download = await apt(
    "apt-get",
    "install",
    "--yes",
    "--download-only",
    "--no-install-recommends",
    ...packages,
  );
  if (download.status !== 0) {
    return `${packages.join(", ")} could not be fetched:\n${lastLines(download, 4)}`;
  }
  await mkdir(unpacked);
  const archives = path.join(work, "archives");
  for (const name of (await readdir(archives)).filter((it) => it.endsWith(".deb"))) {
    const unpack = await capture("dpkg-deb", ["--extract", path.join(archives, name), unpacked]);
    if (unpack.status !== 0) return `${name} could not be unpacked:\n${lastLines(unpack, 4)}`;
  }
  return undefined;
}
