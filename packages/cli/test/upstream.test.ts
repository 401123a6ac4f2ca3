import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { formatPublicKey, generateSecretKey, toPublicKey } from "@glorious/nix-store";
import {
  createTemporaryDirectory,
  type RunningFlywheel,
  runCommand,
  startFlywheel,
} from "@glorious/testkit";
import { expect, test } from "vitest";

import { makeNarInfo } from "./signed-narinfo.ts";

const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));
const PAGE = new URL("../../../docs/how-to/one-substituter.md", import.meta.url);
const TOKEN = "hunter2hunter2";
/** The path that the page tries its upstream with. */
const STORE_PATH = "/nix/store/syd87l2rxw8cbsxmxl853h0r6pdwhwjr-curl-7.82.0-bin";

interface Upstream extends AsyncDisposable {
  readonly url: string;
  readonly publicKey: string;
  /** What came as `Authorization`. */
  readonly authorizations: readonly (string | undefined)[];
}

/** A cache with one signed narinfo. */
async function startUpstream(): Promise<Upstream> {
  const key = generateSecretKey("upstream-1");
  const files = new Map([
    ["/nix-cache-info", "StoreDir: /nix/store\nPriority: 30\n"],
    ["/syd87l2rxw8cbsxmxl853h0r6pdwhwjr.narinfo", makeNarInfo(STORE_PATH, key)],
  ]);
  const authorizations: (string | undefined)[] = [];
  const server = createServer(({ url = "", headers }, response) => {
    authorizations.push(headers.authorization);
    const file = files.get(url);
    response.writeHead(file === undefined ? 404 : 200).end(file);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("It listens nowhere");
  return {
    url: `http://127.0.0.1:${address.port}`,
    publicKey: formatPublicKey(toPublicKey(key)),
    authorizations,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function flywheel(
  server: RunningFlywheel,
  words: readonly string[],
  options: { readonly input?: string; readonly directory?: string } = {},
) {
  return runCommand(process.execPath, ["--conditions=source", MAIN, ...words], {
    env: {
      PATH: process.env["PATH"],
      HOME: options.directory ?? "/nonexistent",
      FLYWHEEL_SERVER: server.url,
      FLYWHEEL_TOKEN: await server.readToken(),
    },
    input: options.input ?? "",
    ...(options.directory === undefined ? {} : { cwd: options.directory }),
  });
}

test("the page about upstreams does what it says, command by command", async () => {
  await using server = await startFlywheel();
  await using upstream = await startUpstream();
  await using home = await createTemporaryDirectory("flywheel-upstream-");
  await writeFile(path.join(home.path, "corp.token"), `${TOKEN}\n`);
  const page = await readFile(PAGE, "utf8");
  const commands = [...page.matchAll(/^flywheel (.*)$/gm)]
    .map(([, words = ""]) => words)
    // What is done to a client's files and fetched ahead of use has tests of its own.
    .filter((words) => !/^(use|warm) /.test(words));
  expect(commands.length).toBeGreaterThan(9);

  const said = new Map<string, string>();
  for (const command of commands) {
    const words = command
      .replace(/https:\S+/, upstream.url)
      .replace(/(?<=--key )\S+/, upstream.publicKey)
      .split(" ");
    const { status, stdout, stderr } = await flywheel(server, words, { directory: home.path });
    expect({ command, status, stderr }).toMatchObject({ status: 0 });
    expect(stdout + stderr).not.toContain(TOKEN);
    said.set(command.split(" ").slice(0, 3).join(" "), stdout + stderr);
  }

  expect(said.get("upstream test nixos")).toMatch(/^key +right: it signed .*-curl-7\.82\.0-bin$/m);
  expect(said.get("view info main")).toMatch(
    /^upstream +nixos \(http:\S+\): asked, stored 0 B of/m,
  );
  expect(said.get("view info main")).toMatch(/^pushes skip +signatures of cache\.nixos\.org-1$/m);
  expect(said.get("view stats main")).toMatch(/^upstream +nixos .* of 200 GiB$/m);
  expect(said.get("upstream use main")).toContain("falls back to corp, nixos");
  expect(said.get("upstream remove nixos")).toContain("from main");
  const info = await flywheel(server, ["view", "info", "main", "--json"]);
  expect(JSON.parse(info.stdout)).toMatchObject({
    signsUpstream: true,
    pushesUpstream: true,
    upstreams: [{ name: "corp", isPrivate: true }],
  });
});

test("a token for an upstream comes from a file or standard input and goes to the upstream alone", async () => {
  await using server = await startFlywheel();
  await using upstream = await startUpstream();
  const add = ["upstream", "add", "corp", upstream.url, "--key", upstream.publicKey];
  const private_ = [...add, "--only-view", "main", "--upstream-token-file"];

  expect((await flywheel(server, [...private_, "-"], { input: `${TOKEN}\n` })).status).toBe(0);
  expect((await flywheel(server, ["upstream", "test", "corp"])).status).toBe(0);
  await flywheel(server, ["upstream", "configure", "corp", "--upstream-token-file", "-"], {
    input: `me:${TOKEN}\n`,
  });
  const listed = await flywheel(server, ["upstream", "list", "--json"]);
  expect(JSON.parse(listed.stdout)).toMatchObject({ upstreams: [{ hasCredentials: true }] });
  await flywheel(server, ["upstream", "test", "corp"]);

  expect(new Set(upstream.authorizations)).toEqual(
    new Set([`Bearer ${TOKEN}`, `Basic ${Buffer.from(`me:${TOKEN}`).toString("base64")}`]),
  );
  expect(listed.stdout + server.logs()).not.toContain(TOKEN);
});

test("what is wrong with an upstream is said, and the exit code is 1", async () => {
  await using server = await startFlywheel();
  await using upstream = await startUpstream();
  const other = formatPublicKey(toPublicKey(generateSecretKey("other-1")));
  await flywheel(server, ["upstream", "add", "wrong", upstream.url, "--key", other]);
  await flywheel(server, ["upstream", "add", "gone", "http://127.0.0.1:9", "--key", other]);

  const wrong = await flywheel(server, ["upstream", "test", "wrong", STORE_PATH]);
  expect(wrong).toMatchObject({ status: 1, stderr: expect.stringContaining("other-key") });
  expect(wrong.stdout).toMatch(/^key +wrong$/m);
  const gone = await flywheel(server, ["upstream", "test", "gone"]);
  expect(gone).toMatchObject({ status: 1, stdout: expect.stringMatching(/^reachable +no$/m) });
  const absent = await flywheel(server, ["upstream", "use", "main", "absent"]);
  expect(absent).toMatchObject({ status: 1, stderr: expect.stringContaining('"absent"') });

  for (const words of [
    ["upstream", "add", "x", upstream.url],
    ["upstream", "add", "x", upstream.url, "--key", other, "--upstream-token-file", "-"],
    ["upstream", "use", "main"],
    ["upstream", "use", "main", "wrong", "--none"],
    ["upstream", "configure", "wrong"],
  ]) {
    expect(await flywheel(server, words)).toMatchObject({ status: 2, stdout: "" });
  }
});
