import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import {
  encodeNix32,
  formatNarInfo,
  formatPublicKey,
  formatSecretKey,
  generateSecretKey,
  parseHash,
  toPublicKey,
  writeNar,
} from "@glorious/nix-store";
import {
  type CommandResult,
  createAtticServerData,
  createNixSandbox,
  describeEachNix,
  type NixSandbox,
  createTemporaryDirectory,
  runCommand,
  type RunningFlywheel,
  startFaultProxy,
  startFlywheel,
} from "@glorious/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

import { createRandom } from "./random.ts";

const LAUNCHER = fileURLToPath(new URL("../bin/flywheel", import.meta.url));

let server: RunningFlywheel;
beforeAll(async () => {
  server = await startFlywheel();
});
afterAll(() => server[Symbol.asyncDispose]());

/** Runs a command of ours against the server. */
async function flywheel(...args: readonly string[]): Promise<CommandResult> {
  return runCommand(LAUNCHER, args, {
    env: {
      ...process.env,
      FLYWHEEL_SERVER: server.url,
      FLYWHEEL_TOKEN: await server.readToken(),
    },
  });
}

async function createView(name: string): Promise<string> {
  const created = await flywheel("view", "create", name);
  expect(created.stderr).not.toContain("hint:");
  const { stdout } = await flywheel("view", "info", name, "--json");
  return (JSON.parse(stdout) as { publicKey: string }).publicKey;
}

/** A static cache as Nix itself makes it, signed, and the public key. */
async function copyToFolder(
  sandbox: NixSandbox,
  path: string,
  compression: string,
): Promise<{ readonly folder: string; readonly publicKey: string }> {
  const folder = join(sandbox.directory, "cache");
  const secret = join(sandbox.directory, "secret");
  await sandbox.output("nix-store", [
    "--generate-binary-cache-key",
    "source-1",
    secret,
    `${secret}.pub`,
  ]);
  await sandbox.output("nix", [
    "copy",
    "--to",
    `file://${folder}?compression=${compression}&secret-key=${secret}`,
    path,
  ]);
  return { folder, publicKey: (await readFile(`${secret}.pub`, "utf8")).trim() };
}

/** What any web server does with a folder. */
async function serveFolder(
  folder: string,
): Promise<AsyncDisposable & { readonly url: string; readonly requests: string[] }> {
  const requests: string[] = [];
  const http = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? "/", "http://localhost");
    requests.push(pathname);
    createReadStream(join(folder, pathname))
      .on("error", () => response.writeHead(404).end())
      .pipe(response);
  }).listen(0, "127.0.0.1");
  await once(http, "listening");
  const address = http.address();
  if (address === null || typeof address === "string") throw new Error("The server has no port");
  return {
    url: `http://127.0.0.1:${address.port}`,
    requests,
    [Symbol.asyncDispose]: async () => {
      http.closeAllConnections();
      http.close();
      await once(http, "close");
    },
  };
}

/** Three paths, each needing the one before, with a link and an executable. */
const CLOSURE = `let
  a = mkPath { name = "import-a"; script = "echo $unique > $out"; };
  b = mkPath { name = "import-b"; script = "mkdir $out; ln -s \${a} $out/link; echo '#!/bin/sh' > $out/run; chmod +x $out/run"; };
in mkPath { name = "import-c"; script = "mkdir $out; echo \${b} > $out/needs; echo $out > $out/self"; }`;

const COMPRESSIONS = ["xz", "br", "gzip", "none", "zstd"];

let round = 0;
describeEachNix("a cache that changes hands", (nix) => {
  const compression = COMPRESSIONS[round % COMPRESSIONS.length] ?? "xz";
  const view = `moved-${(round += 1)}`;

  test(`comes from a static cache (${compression}), is read from us with signatures wanted, and goes back into a folder`, async () => {
    await using sandbox = await createNixSandbox(nix);
    const path = await sandbox.buildPath(CLOSURE);
    const { folder, publicKey } = await copyToFolder(sandbox, path, compression);
    await using source = await serveFolder(folder);
    const viewKey = await createView(view);

    const from = ["--from", source.url, "--key", publicKey];
    const imported = await flywheel("import", view, path, ...from, "--json");
    expect(imported.stderr).toBe("");
    expect(JSON.parse(imported.stdout)).toMatchObject({
      paths: 3,
      added: 3,
      alreadyPresent: 0,
      failed: 0,
      elsewhere: 0,
    });
    source.requests.length = 0;
    const again = await flywheel("import", view, path, ...from, "--json");
    expect(JSON.parse(again.stdout)).toMatchObject({ paths: 1, added: 0, alreadyPresent: 1 });
    expect(source.requests).toEqual(["/nix-cache-info"]);

    const readBack = async (substituter: string, key: string): Promise<void> => {
      await sandbox.configure({
        trustedKeys: [key],
        netrc: [{ password: await server.readToken() }],
        extra: { "narinfo-cache-positive-ttl": "0" },
      });
      const store = await sandbox.createStore();
      const { status, stderr } = await sandbox.run("nix", [
        ...["copy", "--from", substituter, "--to", store],
        path,
      ]);
      expect(status, stderr).toBe(0);
      expect(await readFile(join(sandbox.realPath(path, store), "self"), "utf8")).toBe(`${path}\n`);
    };
    await readBack(`${server.url}/${view}`, viewKey);
    // The signatures that it came with are still there.
    await readBack(`${server.url}/${view}`, publicKey);

    const exportFolder = join(sandbox.directory, "exported");
    const exported = await flywheel("export", view, "--all", "--to", exportFolder, "--json");
    expect(exported.stderr).toBe("");
    expect(JSON.parse(exported.stdout)).toMatchObject({ paths: 3, added: 3, failed: 0 });
    await readBack(`file://${exportFolder}`, viewKey);
    await using served = await serveFolder(exportFolder);
    await readBack(served.url, viewKey);

    const files = await readdir(exportFolder, { recursive: true });
    const repeated = await flywheel("export", view, path, "--to", exportFolder, "--json");
    expect(JSON.parse(repeated.stdout)).toMatchObject({ added: 0, alreadyPresent: 1 });
    expect(await readdir(exportFolder, { recursive: true })).toEqual(files);
  });
});

describeEachNix(
  "an Attic server's caches",
  (nix) => {
    test("come from its database and storage with settings and keys, and clients notice nothing but the address", async () => {
      await using sandbox = await createNixSandbox(nix);
      const path = await sandbox.buildPath(CLOSURE);
      using data = await createAtticServerData(sandbox.directory);
      const key = generateSecretKey("attic-key");
      data.addCache({
        name: "attic-team",
        keypair: formatSecretKey(key),
        isPublic: true,
        priority: 37,
        retentionSeconds: 86_400,
      });
      data.addCache({ name: "attic-none", keypair: formatSecretKey(generateSecretKey("none")) });
      const closure = await sandbox.output("nix-store", ["--query", "--requisites", path]);
      for (const storePath of closure.split("\n")) {
        const references = await sandbox.output("nix-store", [
          "--query",
          "--references",
          storePath,
        ]);
        const file = join(sandbox.directory, "nar");
        await sandbox.output("sh", ["-c", `nix-store --dump ${storePath} > ${file}`]);
        await data.addPath("attic-team", {
          storePath,
          nar: await readFile(file),
          references: references
            .split("\n")
            .filter(Boolean)
            .map((name) => basename(name)),
          chunkBytes: 100,
        });
      }
      data.addPin("attic-team", "release", path);

      const imported = await flywheel(
        "import",
        ...["--from-attic-database", data.databaseFile, "--storage", data.storage],
        ...["--all-caches", "--all", "--with-keys"],
      );

      expect(imported.status, imported.stderr).toBe(0);
      expect(imported.stderr).not.toContain(formatSecretKey(key).slice(-20));
      expect(imported.stderr).toContain("Imported 3 paths");
      const info = JSON.parse((await flywheel("view", "info", "attic-team", "--json")).stdout);
      expect(info).toMatchObject({
        isPublic: true,
        priority: 37,
        publicKey: formatPublicKey(toPublicKey(key)),
        retentionPeriod: { seconds: 86_400 },
      });
      await writeFile(join(sandbox.directory, "pins"), `other ${path}\n`);
      const again = await flywheel(
        "import",
        ...["attic-team", path, "--from-attic-database", data.databaseFile],
        ...["--storage", data.storage, "--cache", "attic-team", "--with-keys"],
        ...["--pins-from", join(sandbox.directory, "pins")],
      );
      expect(again.stderr).toContain("Imported 0 paths into attic-team");
      expect(again.stderr).toContain("1 there already, 0 failed");
      const keys = await flywheel("key", "list", "--view", "attic-team", "--json");
      expect(JSON.parse(keys.stdout)).toMatchObject({ keys: [{ name: "attic-key" }] });
      const pins = await flywheel("path", "pins", "--view", "attic-team", "--json");
      expect(JSON.parse(pins.stdout)).toMatchObject({
        pins: [
          { name: "other", storePath: path },
          { name: "release", storePath: path },
        ],
      });
      // Without a token, and with the key that it was always signed with.
      await sandbox.configure({ trustedKeys: [formatPublicKey(toPublicKey(key))] });
      const { status, stderr } = await sandbox.substitute(path, {
        from: `${server.url}/attic-team`,
      });
      expect(status, stderr).toBe(0);
    });
  },
  "newest",
);

/** As `flywheel`, to be killed on the way. */
async function startCommand(url: string, ...args: readonly string[]): Promise<ChildProcess> {
  const token = await server.readToken();
  const env = { ...process.env, FLYWHEEL_SERVER: url, FLYWHEEL_TOKEN: token };
  return spawn(LAUNCHER, args, { env, stdio: "ignore" });
}

/** Made-up paths of noise in a static cache, each needing the one before. */
async function createNoise(folder: string, count: number, sizeBytes: number): Promise<string[]> {
  const noise = createRandom("import");
  const hashes: string[] = [];
  await mkdir(join(folder, "nar"), { recursive: true });
  await writeFile(join(folder, "nix-cache-info"), "StoreDir: /nix/store\n");
  let before: string | undefined;
  for (let number = 0; number < count; number += 1) {
    const contents = noise.bytes(sizeBytes);
    const file = { path: [], executable: false, sizeBytes, contents: [contents] };
    const nar = Buffer.concat(
      await Array.fromAsync(writeNar([{ type: "regular" as const, ...file }])),
    );
    const digest = createHash("sha256").update(nar).digest();
    const hash = encodeNix32(digest.subarray(0, 20));
    const references: string[] = before === undefined ? [] : [before];
    before = `${hash}-noise`;
    hashes.push(hash);
    await writeFile(join(folder, "nar", `${hash}.nar`), nar);
    const narInfo = formatNarInfo({
      storePath: `/nix/store/${before}`,
      url: `nar/${hash}.nar`,
      compression: "none",
      narHash: parseHash(digest.toString("hex"), "sha256"),
      narSize: nar.length,
      references,
      signatures: [],
    });
    await writeFile(join(folder, `${hash}.narinfo`), narInfo);
  }
  return hashes;
}

/** Uploads of NARs that the server has answered with success. */
function countUploads(): number {
  return server
    .logs()
    .split("\n")
    .filter((line) => /"?path"?[=:]\s*"?\S*\/nars\//.test(line)).length;
}

test("an import that is killed, over a network that breaks, shows nothing half and goes on where it was", async () => {
  await using directory = await createTemporaryDirectory("flywheel-import-");
  const count = 24;
  const hashes = await createNoise(directory.path, count, 2 * 2 ** 20);
  await createView("killed");
  const random = createRandom("broken import");
  await using source = await serveFolder(directory.path);
  await using proxy = await startFaultProxy(
    () => Number(new URL(source.url).port),
    () =>
      random.chance(0.3)
        ? { after: { bytes: random.below(4 * 2 ** 20), towards: "client", kind: "reset" } }
        : { bytesPerSecond: 8 * 2 ** 20 },
  );
  const last = hashes.at(-1) ?? "";
  const args = ["import", "killed", last, "--unsigned"];
  const from = ["--from", `http://127.0.0.1:${proxy.port}`];
  const before = countUploads();

  const child = await startCommand(server.url, ...args, ...from);
  const deadline = performance.now() + 120_000;
  while (countUploads() - before < 6 && performance.now() < deadline) await sleep(20);
  child.kill("SIGKILL");
  await once(child, "close");
  const uploaded = countUploads() - before;
  expect(uploaded).toBeGreaterThanOrEqual(6);
  const listed = await fetch(`${server.url}/_flywheel/v1/views/killed/paths`, {
    headers: { authorization: `Bearer ${await server.readToken()}` },
  });
  expect(await listed.json()).toEqual({ paths: [] });

  const again = await flywheel(...args, ...from, "--json");

  expect(again.stderr).toBe("");
  expect(JSON.parse(again.stdout)).toMatchObject({ paths: count, added: count, failed: 0 });
  // What was under way when it was killed may have arrived.
  expect(countUploads() - before).toBeLessThanOrEqual(count + 8);
  expect(proxy.faults.get("reset") ?? 0).toBeGreaterThan(0);
});
