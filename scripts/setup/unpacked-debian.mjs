import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import path from "node:path";

import { cacheDirectory } from "./checkout.mjs";
import { capture, findOnPath, isExecutableFile, lastLines } from "./command.mjs";
import { readOsRelease } from "./debian-packages.mjs";
import { moveIntoPlace, removeAbandoned } from "./toolchain.mjs";

/** nginx stands beside our server in the bench and before it in a test; wrk and h2load are clients. */
const PACKAGES = [
  ...["nginx", "wrk", "libluajit2-5.1-2", "libluajit2-5.1-common"],
  ...["nghttp2-client", "libnghttp2-14", "libev4", "libc-ares2", "libjemalloc2"],
];
const COMMANDS = ["usr/sbin/nginx", "usr/bin/wrk", "usr/bin/h2load"];

/** The folder of Debian packages that are unpacked instead of installed. */
function unpackedDebianDirectory() {
  return path.join(cacheDirectory(), "tools", "debian");
}

/**
 * Brings Debian's nginx, wrk and h2load into the user's cache folder. Unpacked, not installed: nothing here needs
 * root, and no package starts a web server on the machine's port 80. Libraries they lack lie in
 * `usr/lib/<architecture>` there, for LD_LIBRARY_PATH.
 *
 * @param {(line: string) => void} say
 * @returns {Promise<string | undefined>} why they are not there
 */
export async function bringUnpackedDebian(say) {
  const directory = unpackedDebianDirectory();
  const isComplete = () =>
    COMMANDS.every((command) => isExecutableFile(path.join(directory, command)));
  if (isComplete()) return undefined;
  const { id } = await readOsRelease();
  if (id !== "debian" || findOnPath("apt-get") === undefined) {
    return "they come from Debian's packages, and this is no Debian";
  }
  say(`Bringing Debian's nginx, wrk and h2load into ${directory}`);
  const parent = path.dirname(directory);
  await mkdir(parent, { recursive: true });
  await removeAbandoned(parent);
  const temporary = await mkdtemp(`${directory}.tmp-`);
  try {
    // Root's cache folder is not readable for apt's own user.
    const options = ["--option=APT::Sandbox::User=", "--option=Acquire::Retries=2"];
    const download = await capture("apt-get", [...options, "download", ...PACKAGES], {
      cwd: temporary,
    });
    if (download.status !== 0) return `apt-get could not fetch them:\n${lastLines(download, 4)}`;
    const unpacked = path.join(temporary, "unpacked");
    await mkdir(unpacked);
    for (const name of (await readdir(temporary)).filter((it) => it.endsWith(".deb"))) {
      const result = await capture("dpkg-deb", ["-x", path.join(temporary, name), unpacked]);
      if (result.status !== 0) return `${name} could not be unpacked:\n${lastLines(result, 4)}`;
    }
    if (!COMMANDS.every((command) => existsSync(path.join(unpacked, command)))) {
      return `the packages ${PACKAGES.join(", ")} hold no ${COMMANDS.join(" and ")}`;
    }
    await moveIntoPlace(unpacked, directory, isComplete);
    return undefined;
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}
