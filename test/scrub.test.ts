import { createHash, randomBytes } from "node:crypto";
import { open, readdir, rm, stat, truncate, utimes } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { openCache, queryClosure } from "@glorious/cache-client";
import { formatHash, parseNarInfo } from "@glorious/nix-store";
import {
  type CommandResult,
  createNixSandbox,
  createTemporaryDirectory,
  describeEachNix,
  findNixVersions,
  type NixSandbox,
  type NixVersion,
  type RunningFlywheel,
  runCommand,
  startFlywheel,
} from "@glorious/testkit";
import { describe, expect, test } from "vitest";

const LAUNCHER = fileURLToPath(new URL("../bin/flywheel", import.meta.url));

function flywheel(server: RunningFlywheel, ...words: readonly string[]): Promise<CommandResult> {
  const target = ["--server", server.url, "--token-file", server.tokenFile];
  return runCommand(LAUNCHER, [...words, ...target]);
}

async function push(server: RunningFlywheel, nix: NixVersion, storePath: string): Promise<void> {
  const token = await server.readToken();
  await using cache = await openCache({ server: server.url, view: server.view, token });
  const command = path.join(nix.binDirectory, "nix");
  await cache.push(await queryClosure([storePath], { recursive: true, nix: command }));
}

/** A path whose NAR is large enough that no read of it shows a flipped byte to the server. */
function build(builder: NixSandbox, name: string): Promise<string> {
  return builder.buildPath(
    `mkPath { name = "${name}"; script = "head -c 300000 /dev/urandom > $out"; }`,
  );
}

async function narInfo(server: RunningFlywheel, storePath: string): Promise<Response> {
  const headers = { authorization: `Bearer ${await server.readToken()}` };
  return fetch(`${server.substituter}/${path.basename(storePath).slice(0, 32)}.narinfo`, {
    headers,
  });
}

async function objectFile(server: RunningFlywheel, storePath: string): Promise<string> {
  const { fileHash } = parseNarInfo(await (await narInfo(server, storePath)).text());
  if (fileHash === undefined) throw new Error(`${storePath} has no file hash`);
  const name = formatHash(fileHash, "base16").slice("sha256:".length);
  const root = path.join(server.dataDirectory, "store");
  const files = await readdir(root, { recursive: true });
  return path.join(root, files.find((file) => file.endsWith(name)) ?? "absent");
}

const DAMAGES: Readonly<Record<string, (file: string) => Promise<void>>> = {
  deleted: (file) => rm(file),
  truncated: (file) => truncate(file, 1000),
  flipped: flipByte,
};

/** Changes one bit, as a bad disk does: the file's times do not tell. */
async function flipByte(file: string): Promise<void> {
  const { size, atime, mtime } = await stat(file);
  {
    await using handle = await open(file, "r+");
    const byte = Buffer.alloc(1);
    await handle.read(byte, 0, 1, size - 1000);
    await handle.write(Buffer.from([(byte[0] ?? 0) ^ 1]), 0, 1, size - 1000);
  }
  await utimes(file, atime, mtime);
}

/** A machine that has seen nothing yet gets the path, or does not. */
async function substitute(
  version: NixVersion,
  server: RunningFlywheel,
  storePath: string,
): Promise<CommandResult> {
  await using client = await createNixSandbox(version, {
    trustedKeys: [server.publicKey],
    netrc: [{ password: await server.readToken() }],
  });
  return await client.substitute(storePath, { from: server.substituter });
}

describeEachNix("a scrub", (version) => {
  test.each(Object.entries(DAMAGES))(
    "finds what was %s; Nix misses it, and gets it again after a push",
    async (_, damage) => {
      await using server = await startFlywheel();
      await using builder = await createNixSandbox(version);
      const [bad, good] = [await build(builder, "bad"), await build(builder, "good")];
      await push(server, version, bad);
      await push(server, version, good);
      expect(await flywheel(server, "scrub")).toMatchObject({ status: 0, stdout: "" });
      await damage(await objectFile(server, bad));
      // The server has its narinfo in memory.
      expect((await narInfo(server, bad)).status).toBe(200);

      const scrubbed = await flywheel(server, "scrub");

      expect(scrubbed).toMatchObject({ status: 1 });
      expect(scrubbed.stdout).toContain(bad);
      expect(scrubbed.stdout).not.toContain(good);
      expect(scrubbed.stderr).toMatch(/1 stored object is bad/);
      expect((await narInfo(server, bad)).status).toBe(404);
      // A miss like any other: Nix asks the next cache, or builds.
      const missed = await substitute(version, server, bad);
      expect(missed.status).not.toBe(0);
      expect(missed.stderr).not.toMatch(/hash mismatch|corrupt|truncated/i);
      expect(await substitute(version, server, good)).toMatchObject({ status: 0 });
      const shown = await flywheel(server, "scrub", "--status", "--json");
      expect(shown.status).toBe(1);
      expect(JSON.parse(shown.stdout)).toMatchObject({
        pass: { state: "done", badTotal: 1 },
        quarantine: { total: 1, objects: [{ paths: [{ view: "main", storePath: bad }] }] },
      });

      await push(server, version, bad);

      expect(await substitute(version, server, bad)).toMatchObject({ status: 0 });
      expect(await flywheel(server, "scrub")).toMatchObject({ status: 0, stdout: "" });
    },
  );

  test("is not needed for a file that is gone: the first read makes it a miss, and `nix copy` heals it", async () => {
    await using server = await startFlywheel();
    const token = await server.readToken();
    await using builder = await createNixSandbox(version, { netrc: [{ password: token }] });
    const storePath = await build(builder, "gone");
    await push(server, version, storePath);
    await rm(await objectFile(server, storePath));

    // Nix has seen the narinfo when it meets the hole; whoever comes next finds neither.
    expect((await substitute(version, server, storePath)).status).not.toBe(0);
    expect((await narInfo(server, storePath)).status).toBe(404);

    const copy = ["copy", "--to", `${server.substituter}?compression=zstd`, storePath];
    const copied = await builder.run("nix", copy);
    expect(copied, copied.stderr).toMatchObject({ status: 0 });
    expect(await substitute(version, server, storePath)).toMatchObject({ status: 0 });
  });
});

describeEachNix("`nix copy`", (version) => {
  test("sends a NAR again that it had uploaded and that was lost since", async () => {
    await using server = await startFlywheel();
    const token = await server.readToken();
    await using builder = await createNixSandbox(version, { netrc: [{ password: token }] });
    const storePath = await build(builder, "copied-twice");
    const copy = async (): Promise<void> => {
      // A machine that remembers nothing of the cache.
      await rm(path.join(builder.home, ".cache", "nix"), { recursive: true, force: true });
      const copied = await builder.run("nix", ["copy", "--to", server.substituter, storePath]);
      expect(copied, copied.stderr).toMatchObject({ status: 0 });
    };
    await copy();
    await rm(await objectFile(server, storePath));
    expect(await flywheel(server, "scrub")).toMatchObject({ status: 1 });
    expect((await narInfo(server, storePath)).status).toBe(404);

    await copy();

    expect(await substitute(version, server, storePath)).toMatchObject({ status: 0 });
    expect(await flywheel(server, "scrub")).toMatchObject({ status: 0 });
  });
});

const [newest] = findNixVersions().toReversed();

describe.skipIf(newest === undefined)("a scrub among others", () => {
  test("a server that is killed in its middle again and again loses nothing, and the command comes to its end", async () => {
    if (newest === undefined) return;
    await using directory = await createTemporaryDirectory("flywheel-scrub-");
    const dataDirectory = path.join(directory.path, "data");
    await using builder = await createNixSandbox(newest);
    const storePaths: string[] = [];
    const [listen, bad] = await (async () => {
      await using server = await startFlywheel({ dataDirectory });
      for (let number = 0; number < 12; number += 1) {
        const storePath = await build(builder, `path-${number}`);
        await push(server, newest, storePath);
        storePaths.push(storePath);
      }
      const damaged = storePaths[7] ?? "";
      await flipByte(await objectFile(server, damaged));
      return [new URL(server.url).host, damaged] as const;
    })();
    const start = (): Promise<RunningFlywheel> => startFlywheel({ dataDirectory, listen });

    let server = await start();
    // Slow enough to be met in its middle.
    const scrubbing = flywheel(server, "scrub", "--bytes-per-second", "1MiB", "--json");
    for (let round = 0; round < 3; round += 1) {
      await expectScrubbing(server);
      const pushed = await build(builder, `pushed-${round}`);
      const pulled = substitute(newest, server, storePaths[round] ?? "");
      await push(server, newest, pushed);
      storePaths.push(pushed);
      expect(await pulled).toMatchObject({ status: 0 });
      server.kill("SIGKILL");
      await server.exited;
      server = await start();
    }
    const { status, stdout, stderr } = await scrubbing;
    await using last = server;

    expect({ status, stderr }).toMatchObject({ status: 1 });
    expect(JSON.parse(stdout)).toMatchObject({
      pass: { state: "done", fraction: 1, orphans: { files: 0 } },
      quarantine: { total: 1, objects: [{ paths: [{ storePath: bad }] }] },
    });
    const sound: string[] = [];
    for (const storePath of storePaths) {
      if ((await substitute(newest, last, storePath)).status === 0) sound.push(storePath);
    }
    expect(sound).toEqual(storePaths.filter((storePath) => storePath !== bad));
    await push(last, newest, bad);
    expect(await substitute(newest, last, bad)).toMatchObject({ status: 0 });
  });
});

/** Waits until the server reads objects on request. */
async function expectScrubbing(server: RunningFlywheel): Promise<void> {
  const headers = { authorization: `Bearer ${await server.readToken()}` };
  for (;;) {
    const answer = await fetch(`${server.url}/_flywheel/v1/scrub`, { headers });
    const { pass } = (await answer.json()) as { pass?: { state: string; scanned: number } };
    if (pass?.state === "running" && pass.scanned > 0) return;
    if (pass?.state === "done") throw new Error("The scrub was faster than the test");
    await sleep(10);
  }
}

test("`flywheel scrub` names the blobs of Bazel that are bad, and is content when they were stored anew", async () => {
  await using server = await startFlywheel();
  const bytes = randomBytes(100_000);
  const hash = createHash("sha256").update(bytes).digest("hex");
  const upload = async (): Promise<number> => {
    const headers = { authorization: `Bearer ${await server.readToken()}` };
    const url = `${server.url}/${server.view}/cas/${hash}`;
    return (await fetch(url, { method: "PUT", headers, body: bytes })).status;
  };
  expect(await upload()).toBe(200);
  const names = await readdir(server.dataDirectory, { recursive: true });
  await rm(path.join(server.dataDirectory, names.find((name) => name.includes(`${hash}-`)) ?? ""));

  const found = await flywheel(server, "scrub");
  expect(found).toMatchObject({ status: 1 });
  expect(found.stdout).toMatch(new RegExp(`^main +blob +${hash} +gone from the store$`, "m"));
  expect(found.stderr).toContain("1 Bazel blob or value was bad");

  expect(await upload()).toBe(200);
  const healed = await flywheel(server, "scrub", "--json");
  expect(healed).toMatchObject({ status: 0 });
  expect(JSON.parse(healed.stdout)).toMatchObject({ pass: { bazel: { badTotal: 0, scanned: 1 } } });
});
