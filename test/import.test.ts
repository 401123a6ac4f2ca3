import { once } from "node:events";
import { createReadStream } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import {
  type CommandResult,
  createNixSandbox,
  describeEachNix,
  type NixSandbox,
  runCommand,
  type RunningFlywheel,
  startFlywheel,
} from "@glorious/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

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
      const { status, stderr } = await sandbox.substitute(path, { from: substituter, store });
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
