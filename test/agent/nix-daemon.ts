import { spawn } from "node:child_process";
import { once } from "node:events";
import { access, mkdir, writeFile } from "node:fs/promises";
import path from "node:path";

import { createTemporaryDirectory, type NixVersion } from "@glorious/testkit";
import { expect } from "vitest";

/** Starts a Nix daemon on the machine's store, which trusts only the users named; `env` leads clients to it. */
export async function startNixDaemon(
  { binDirectory }: NixVersion,
  trustedUsers: string,
): Promise<AsyncDisposable & { readonly env: Record<string, string> }> {
  const directory = await createTemporaryDirectory("flywheel-daemon-");
  const conf = path.join(directory.path, "conf");
  await mkdir(conf);
  await writeFile(
    path.join(conf, "nix.conf"),
    `trusted-users = ${trustedUsers}\nallowed-users = *\nbuild-users-group =\nsandbox = false\nsubstituters =\n`,
  );
  const NIX_DAEMON_SOCKET_PATH = path.join(directory.path, "socket");
  const daemon = spawn(path.join(binDirectory, "nix-daemon"), [], {
    env: { PATH: process.env["PATH"], NIX_CONF_DIR: conf, NIX_DAEMON_SOCKET_PATH },
    stdio: "ignore",
  });
  const exited = once(daemon, "exit");
  await expect.poll(() => access(NIX_DAEMON_SOCKET_PATH).then(() => true)).toBe(true);
  return {
    env: { NIX_REMOTE: "daemon", NIX_DAEMON_SOCKET_PATH },
    async [Symbol.asyncDispose]() {
      daemon.kill();
      await exited;
      await directory[Symbol.asyncDispose]();
    },
  };
}
