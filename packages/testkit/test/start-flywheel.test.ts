import { chmod, writeFile } from "node:fs/promises";
import path from "node:path";

import { expect, test } from "vitest";

import { createTemporaryDirectory, startFlywheel } from "../src/index.ts";

/** A stand-in for `bin/flywheel` that behaves as the script says. */
async function writeLauncher(directory: string, script: string): Promise<string> {
  const launcher = path.join(directory, "flywheel");
  await writeFile(launcher, `#!/bin/sh\n${script}\n`);
  await chmod(launcher, 0o755);
  return launcher;
}

const READY_LINE = JSON.stringify({
  url: "http://127.0.0.1:1",
  view: "main",
  substituter: "http://127.0.0.1:1/main",
  publicKey: "main-1:AAAA",
  tokenFile: "/nowhere/token",
});
const SAY_READY = `echo starting >&2; printf '%s' '${READY_LINE.slice(0, 20)}'; echo '${READY_LINE.slice(20)}'`;

test("a server is ready once its JSON line is complete", async () => {
  await using directory = await createTemporaryDirectory();
  const launcher = await writeLauncher(directory.path, `${SAY_READY}; exec sleep 60`);

  await using server = await startFlywheel({ launcher, args: ["--public"] });

  expect(server.url).toBe("http://127.0.0.1:1");
  expect(await server.peakMemoryBytes()).toBeGreaterThan(0);
  expect(await server.stop()).toBe(128 + 15);
  expect(server.logs()).toContain("starting");
});

test("a server that ends before it is ready is reported with its logs", async () => {
  await using directory = await createTemporaryDirectory();
  const launcher = await writeLauncher(directory.path, `echo "no such view" >&2; exit 3`);

  await expect(startFlywheel({ launcher })).rejects.toThrow(/ended with 3[^]*no such view/);
});

test("a silent server is stopped and reported", async () => {
  await using directory = await createTemporaryDirectory();
  const launcher = await writeLauncher(directory.path, "exec sleep 60");

  await expect(startFlywheel({ launcher, readyTimeoutMs: 200 })).rejects.toThrow(/not ready/);
});

test("a server that ignores the request to stop is killed", async () => {
  await using directory = await createTemporaryDirectory();
  const launcher = await writeLauncher(
    directory.path,
    `trap '' TERM; ${SAY_READY}; exec sleep 60 </dev/null`,
  );
  await using server = await startFlywheel({ launcher, stopTimeoutMs: 200 });

  expect(await server.stop()).toBe(128 + 9);
});

test("a developer's own FLYWHEEL_ settings do not reach the server, the test's do", async () => {
  await using directory = await createTemporaryDirectory();
  const launcher = await writeLauncher(
    directory.path,
    `env | grep ^FLYWHEEL_ >&2; echo "$*" >&2; ${SAY_READY}; exec sleep 60`,
  );
  process.env["FLYWHEEL_SERVER"] = "http://127.0.0.1:9";
  try {
    await using server = await startFlywheel({ launcher, env: { FLYWHEEL_LOG_LEVEL: "debug" } });
    await server.stop();

    expect(server.logs()).toContain("FLYWHEEL_LOG_LEVEL=debug");
    expect(server.logs()).not.toContain("FLYWHEEL_SERVER");
    expect(server.logs()).toContain(
      `up --json --listen 127.0.0.1:0 --data ${server.dataDirectory}`,
    );
  } finally {
    delete process.env["FLYWHEEL_SERVER"];
  }
});
