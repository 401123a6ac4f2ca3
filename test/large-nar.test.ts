import { createCipheriv } from "node:crypto";
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { createNixSandbox, findNixVersions, runCommand, startFlywheel } from "@glorious/testkit";
import { expect, test } from "vitest";

const MIB = 2 ** 20;
/** `pnpm test:long` takes 4 GiB; every other run a NAR that is still larger than all buffers together. */
const SIZE_MIB = process.env["GLORIOUS_LONG"] === "1" ? 4096 : 512;
const LAUNCHER = fileURLToPath(new URL("../bin/flywheel", import.meta.url));

/** Half of it compresses, half does not, as in real closures; no two pieces are equal. */
async function writeLargeFile(path: string): Promise<void> {
  await using file = await open(path, "w");
  const noise = createCipheriv("aes-128-ctr", Buffer.alloc(16, 1), Buffer.alloc(16));
  const zeros = Buffer.alloc(MIB);
  for (let piece = 0; piece < SIZE_MIB / 2; piece += 1) {
    await file.write(noise.update(zeros));
    const line = `symbol ${piece} in /usr/lib/libexample.so\n`;
    await file.write(Buffer.alloc(MIB, line));
  }
}

/** Runs a command and keeps the most memory it held, which the kernel tells until the process ends. */
const WITH_PEAK = `
  peak=$1; shift
  "$@" & pid=$!
  while kill -0 $pid 2>/dev/null; do
    grep VmHWM /proc/$pid/status >"$peak.now" 2>/dev/null && mv "$peak.now" "$peak"
    sleep 0.02
  done
  wait $pid
`;

const nix = findNixVersions().at(-1);

test.skipIf(nix === undefined)(
  `one NAR of ${SIZE_MIB} MiB is pushed and pulled in at most 300 MiB on either side`,
  { timeout: 1_800_000 },
  async ({ annotate }) => {
    if (nix === undefined) return;
    await using server = await startFlywheel();
    await using sandbox = await createNixSandbox(nix, {
      trustedKeys: [server.publicKey],
      netrc: [{ password: await server.readToken() }],
    });
    const file = join(sandbox.directory, "large");
    await writeLargeFile(file);
    const options = { timeoutMs: 900_000 };
    const path = await sandbox.output("nix-store", ["--add", file], options);
    const peakFile = join(sandbox.directory, "client-peak");

    const target = ["--server", server.url, "--view", "main", "--token-file", server.tokenFile];
    const push = await runCommand(
      "bash",
      ["-c", WITH_PEAK, "bash", peakFile, LAUNCHER, "push", ...target, path],
      { ...options, env: sandbox.env },
    );

    expect(push).toMatchObject({ status: 0 });
    const pulled = await sandbox.substitute(path, { from: server.substituter });
    expect(pulled.stderr).toContain(`copying path '${path}' from '${server.substituter}'`);
    const clientMib = Number(/\d+/.exec(await readFile(peakFile, "utf8"))) / 1024;
    const serverMib = ((await server.peakMemoryBytes()) ?? 0) / MIB;
    await annotate(`client ${clientMib.toFixed(0)} MiB, server ${serverMib.toFixed(0)} MiB`);
    expect(clientMib).toBeGreaterThan(0);
    expect(clientMib).toBeLessThan(300);
    expect(serverMib).toBeGreaterThan(0);
    expect(serverMib).toBeLessThan(300);
    await sandbox.run("nix-store", ["--delete", path], options);
  },
);
