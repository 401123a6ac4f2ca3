import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { formatPublicKey, generateSecretKey, toPublicKey } from "@glorious/nix-store";
import {
  createTemporaryDirectory,
  type RunningFlywheel,
  runCommand,
  startFlywheel,
} from "@glorious/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";

import { makeNarInfo } from "./signed-narinfo.ts";

/** What the command line says to somebody who asked for what cannot be. */
const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));
const HASH = "syd87l2rxw8cbsxmxl853h0r6pdwhwjr";
const STORE_PATH = `/nix/store/${HASH}-curl-7.82.0-bin`;
const NOWHERE = `/nix/store/${"0".repeat(32)}-nowhere`;

const opened = new AsyncDisposableStack();
let server: RunningFlywheel;
let folder = "";

beforeAll(async () => {
  server = opened.use(await startFlywheel());
  folder = opened.use(await createTemporaryDirectory("flywheel-refusals-")).path;
});
afterAll(() => opened.disposeAsync());

async function flywheel(words: readonly string[], token?: string) {
  return runCommand(process.execPath, ["--conditions=source", MAIN, ...words], {
    env: {
      PATH: process.env["PATH"],
      HOME: folder,
      FLYWHEEL_SERVER: server.url,
      FLYWHEEL_TOKEN: token ?? (await server.readToken()),
      FLYWHEEL_VIEW: server.view,
    },
    input: "",
  });
}

test("an export names what is in the way of its folder", async () => {
  const file = path.join(folder, "a-file");
  await writeFile(file, "");
  const to = (place: string) => flywheel(["export", server.view, "--all", "--to", place]);
  expect(await to(file)).toMatchObject({
    status: 1,
    stderr: `flywheel: ${file} is a file, not a folder\n  hint: Choose another folder.\n`,
  });
  expect(await to(path.join(file, "below"))).toMatchObject({
    status: 1,
    stderr: expect.stringContaining(`${file} is a file\n`),
  });
  expect(await to("/proc/flywheel/cache")).toMatchObject({
    status: 1,
    stderr: expect.stringContaining("nothing can be made in /proc\n"),
  });
});

test("a path that is nowhere fails `warm`, which says each thing once", async () => {
  const { status, stdout, stderr } = await flywheel(["warm", NOWHERE, "--view", server.view]);
  expect(status).toBe(1);
  expect(stdout).toMatch(/^fetched 0 .*, 1 nowhere, in .*\n$/);
  expect(stderr).toMatch(/^0{32} is nowhere: .*\nflywheel: 1 path is nowhere\n {2}hint: .*\n$/);
  const fromPush = await flywheel(["warm", "--from-push", "--view", server.view]);
  expect(fromPush).toMatchObject({ status: 0, stderr: "" });
});

test("an upstream's password is not repeated, and the option that takes it is named", async () => {
  const address = "https://reader:hunter2hunter2@cache.example.org/";
  const key = formatPublicKey(toPublicKey(generateSecretKey("example-1")));
  const refused = await flywheel(["upstream", "add", "corp", address, "--key", key]);
  expect(refused).toMatchObject({ status: 2, stdout: "" });
  expect(refused.stderr).toContain("--upstream-token-file");
  expect(refused.stderr).not.toContain("hunter2");
});

test("a source's wrong key is named beside the one that signed, and the way to give another", async () => {
  const source = path.join(folder, "source");
  await mkdir(source);
  const signer = generateSecretKey("signer-1");
  const write = (...signers: ReturnType<typeof generateSecretKey>[]) =>
    writeFile(path.join(source, `${HASH}.narinfo`), makeNarInfo(STORE_PATH, ...signers));
  const importWith = (name: string) =>
    flywheel([
      ...["import", server.view, "--from", `file://${source}`, STORE_PATH],
      ...["--key", formatPublicKey(toPublicKey(generateSecretKey(name)))],
    ]);
  await write(signer);
  const other = await importWith("other-1");
  expect(other.status).toBe(1);
  expect(other.stderr).toContain("is signed by signer-1, and not by other-1");
  expect(other.stderr).toContain("--key signer-1:…");
  const namesake = await importWith("signer-1");
  expect(namesake.stderr).toContain("a signature by signer-1 that the key given");
  await write();
  expect((await importWith("other-1")).stderr).toContain("--unsigned");
});

test.each([
  ["a web page", "text/html", "<html>Welcome</html>"],
  ["nothing", "text/plain", ""],
])("a server that answers 404 with %s is said to be none of Attic's", async (_, type, body) => {
  const web = createServer((_request, response) => {
    response.writeHead(404, { "content-type": type }).end(body);
  });
  const address = await listen(web);
  const refused = await flywheel([
    ...["import", server.view, "--from-attic", address, "--cache", "team", STORE_PATH],
  ]);
  const view = await flywheel(["view", "info", "main", "--server", address]);
  web.close();
  expect(refused.status).toBe(1);
  expect(refused.stderr).toContain("does not answer as Attic's API does");
  expect(refused.stderr).toContain("--from URL --key KEY");
  expect(view.stderr).toContain("does not answer as a cache server does");
});

test("a server that answers everything with a page has created nothing", async () => {
  const web = createServer((_request, response) => {
    response.writeHead(200, { "content-type": "text/html" }).end("<html>Welcome</html>");
  });
  const address = await listen(web);
  const created = await flywheel(["view", "create", "new", "--server", address]);
  web.close();
  expect(created).toMatchObject({ status: 1, stdout: "" });
  expect(created.stderr).toContain("answered something unexpected (a web page)");
});

test("a revocation is looked at before it is taken back", async () => {
  const [named, id] = [["--run", "4711"], "1"];
  expect(await flywheel(["revoke", ...named, "--yes"])).toMatchObject({ status: 0 });
  const looked = await flywheel(["unquarantine", id, "--dry-run"]);
  expect(looked).toMatchObject({
    status: 0,
    stderr: expect.stringMatching(
      /^The revocation 1 of .* names run 4711 and hid 0 entries\. What/,
    ),
  });
  expect((await flywheel(["unquarantine", id])).stderr).toContain("Took the revocation 1 back");
  expect(await flywheel(["unquarantine", id, "--dry-run"])).toMatchObject({ status: 1 });
});

test("who misuses a command is told where to read about it", async () => {
  expect(await flywheel(["warm"])).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("hint: See `flywheel warm --help`."),
  });
});

test("a permission that a valid token lacks is named with its view and with who grants it", async () => {
  const made = await flywheel(["token", "create", "--pull", server.view]);
  const token = made.stdout.trim();
  const weak = await flywheel(["view", "configure", server.view, "--public"], token);
  expect(weak.status).toBe(1);
  expect(weak.stderr).toContain(`no configure permission on cache ${server.view}`);
  expect(weak.stderr).toContain("flywheel token create --configure VIEW");
  const elsewhere = await flywheel(["view", "info", "other"], token);
  expect(elsewhere.stderr).toContain("The token is valid, but gives nothing on cache other");
  expect(elsewhere.stderr).toContain("flywheel token create --pull VIEW");
  const admin = await flywheel(["token", "create", "--pull", server.view], token);
  expect(admin.stderr).toContain("needs an administrator's token");
  expect(admin.stderr).not.toContain("Send a valid token");
});

async function listen(web: Server): Promise<string> {
  await once(web.listen(0, "127.0.0.1"), "listening");
  return `http://127.0.0.1:${(web.address() as AddressInfo).port}`;
}
