import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import process from "node:process";

import { capture, findOnPath, lastLines } from "./command.mjs";

/** What the test lanes run that Debian has, by the command or file that shows it is there. */
const PACKAGE_OF_COMMAND = {
  nix: "nix-bin",
  openssl: "openssl",
  busybox: "busybox",
  curl: "curl",
  h2load: "nghttp2-client",
  "/usr/lib/python3/dist-packages/h2/__init__.py": "python3-h2",
};
const APT_OPTIONS = [
  "--option=DPkg::Lock::Timeout=120",
  "--option=Acquire::Retries=1",
  "--option=Acquire::http::Timeout=20",
  "--option=Acquire::https::Timeout=20",
];

/**
 * Installs the Debian packages that the test lanes need and that the machine lacks, when it may.
 *
 * @param {(line: string) => void} say
 * @returns {Promise<string | undefined>} why something is still missing
 */
export async function bringDebianPackages(say) {
  const packages = Object.entries(PACKAGE_OF_COMMAND)
    .filter(([sign]) =>
      path.isAbsolute(sign) ? !existsSync(sign) : findOnPath(sign) === undefined,
    )
    .map(([, name]) => name);
  if (packages.length === 0) return undefined;
  const names = packages.join(", ");

  const { ids } = await readOsRelease();
  if (
    !ids.some((id) => id === "debian" || id === "ubuntu") ||
    findOnPath("apt-get") === undefined
  ) {
    return `${names}: not installed, this is no Debian or Ubuntu`;
  }
  const prefix = await privilegePrefix();
  if (prefix === undefined) {
    return `${names}: not installed, that needs root or sudo without a password; run: apt-get install ${packages.join(" ")}`;
  }
  say(`Installing Debian's ${names} with apt-get`);
  const environment = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const apt = (...args) => {
    const [command, ...rest] = [...prefix, "apt-get", ...APT_OPTIONS, ...args];
    return capture(command, rest, { env: environment });
  };
  const installArgs = ["install", "--yes", "--no-install-recommends", ...packages];
  let result = await apt(...installArgs);
  if (result.status !== 0) {
    // The package lists are missing or old. Other people's sources may fail here and need not matter.
    await apt("update");
    result = await apt(...installArgs);
  }
  if (result.status === 0) return undefined;
  return `${names}: apt-get could not install them:\n${lastLines(result, 4)}`;
}

/** The words in front of a command that make it root's: none for root, undefined when there is no way. */
async function privilegePrefix() {
  if (process.getuid?.() === 0) return [];
  const sudo = findOnPath("sudo");
  if (sudo === undefined) return undefined;
  return (await capture(sudo, ["-n", "true"])).status === 0 ? [sudo, "-n"] : undefined;
}

/** What `/etc/os-release` says: the system's id with those it is like, and its code name. */
export async function readOsRelease() {
  const text = await readFile("/etc/os-release", "utf8").catch(() => "");
  const field = (name) => new RegExp(`^${name}="?([^"\n]*)"?$`, "m").exec(text)?.[1] ?? "";
  return {
    id: field("ID"),
    ids: [field("ID"), ...field("ID_LIKE").split(" ")],
    codename: field("VERSION_CODENAME"),
  };
}
