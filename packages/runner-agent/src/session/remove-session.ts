import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir, readFile, rm } from "node:fs/promises";
import path from "node:path";

import { replaceFile } from "@glorious/cache-client";

import type { SessionFiles } from "./session-files.ts";

/** Waits for processes, for a day at most, and removes a folder. A zombie is over: nobody may ever collect it. */
const SWEEP = `folder=$1; shift
for pid; do
  turns=0
  while [ $turns -lt 43200 ] && grep -qs ') [^ZX] ' "/proc/$pid/stat"; do
    sleep 2
    turns=$((turns + 1))
  done
done
rm -rf "$folder"`;

/**
 * Removes a session's folder.
 *
 * A build that somebody let go on after the job would fail at its very end, had the hook gone that its Nix was told of.
 * So while such a Nix runs, a hook that does nothing stays, and goes with the last of them. They are found on Linux.
 */
export async function removeSession(files: SessionFiles): Promise<void> {
  const users = existsSync(files.hook) ? await findNixProcesses(files) : [];
  if (users.length === 0) {
    await rm(files.folder, { recursive: true, force: true });
    return;
  }
  await replaceFile(files.hook, "#!/bin/sh\nexit 0\n");
  for (const name of await readdir(files.folder)) {
    const file = path.join(files.folder, name);
    if (file !== files.hook) await rm(file, { recursive: true, force: true });
  }
  const words = ["-c", SWEEP, "sh", files.folder, ...users];
  const options = { cwd: "/", detached: true, stdio: "ignore" } as const;
  spawn("/bin/sh", words, options)
    .on("error", () => {})
    .unref();
}

/** The Nix commands of this user that were started with the session's nix.conf. */
async function findNixProcesses({ nixConf }: SessionFiles): Promise<string[]> {
  const names = await readdir("/proc").catch(() => []);
  const found = await Promise.all(
    names
      .filter((name) => /^\d+$/.test(name))
      .map(async (pid) => {
        const read = (file: string): Promise<string> =>
          readFile(`/proc/${pid}/${file}`, "latin1").catch(() => "");
        if (!(await read("comm")).includes("nix")) return [];
        return (await read("environ")).includes(nixConf) ? [pid] : [];
      }),
  );
  return found.flat();
}
