import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { EventEmitter, once } from "node:events";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { formatSecretKey, generateSecretKey, parseSha256Hex } from "@glorious/nix-store";
import {
  createNixSandbox,
  createTemporaryDirectory,
  describeEachNix,
  findNixVersions,
  type NixSandbox,
  type RunningFlywheel,
  runCommand,
  startFlywheel,
} from "@glorious/testkit";
import { describe, expect, test, vi } from "vitest";

const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));

// Each test waits for events, however long a busy machine takes for them: only what never comes is a failure.
vi.setConfig({ testTimeout: 240_000 });

interface Event {
  readonly type: string;
  readonly storePaths?: readonly string[];
  readonly uploaded?: number;
  readonly skipped?: number;
  readonly code?: string;
  readonly unpushed?: readonly string[];
}

/** A running `flywheel watch-store --json`. */
interface Watch extends AsyncDisposable {
  readonly events: readonly Event[];
  /** Waits for an event; those seen before count too. Fails when the watch ends without it. */
  find(what: string, matches: (event: Event) => boolean): Promise<Event>;
  /** The new path was pushed, or found in the view. */
  pushed(storePath: string): Promise<Event>;
  stop(signal?: NodeJS.Signals): Promise<number | null>;
  readonly exited: Promise<number | null>;
  stderr(): string;
}

async function startWatch(
  nix: NixSandbox,
  server: RunningFlywheel,
  options: { readonly words?: readonly string[]; readonly tokenFile?: string } = {},
): Promise<Watch> {
  const { words = [], tokenFile = server.tokenFile } = options;
  const target = ["--server", server.url, "--view", "main", "--token-file", tokenFile];
  const child = spawn(
    process.execPath,
    ["--conditions=source", MAIN, "watch-store", "--json", ...target, ...words],
    { env: nix.env, stdio: ["ignore", "pipe", "pipe"] },
  );
  const events: Event[] = [];
  const arrivals = new EventEmitter().setMaxListeners(0);
  let rest = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    const lines = `${rest}${chunk}`.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) events.push(JSON.parse(line) as Event);
    if (lines.length > 0) arrivals.emit("events");
  });
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    stderr += chunk;
  });
  const exit = Promise.withResolvers<number | null>();
  child.on("close", (code) => exit.resolve(code));
  const watch: Watch = {
    events,
    async find(what, matches) {
      for (let hasEnded = false; ;) {
        const found = events.find(matches);
        if (found !== undefined) return found;
        if (hasEnded) throw new Error(`The watch ended without ${what}: ${stderr}`);
        hasEnded = await Promise.race([
          once(arrivals, "events").then(() => false),
          exit.promise.then(() => true),
        ]);
      }
    },
    pushed: (storePath) =>
      watch.find(
        `push of ${storePath}`,
        ({ type, storePaths }) => type === "pushed" && storePaths?.includes(storePath) === true,
      ),
    stop(signal = "SIGTERM") {
      child.kill(signal);
      return exit.promise;
    },
    exited: exit.promise,
    stderr: () => stderr,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await exit.promise;
    },
  };
  await watch.find("start", ({ type }) => type === "watching");
  return watch;
}

async function isInView(server: RunningFlywheel, storePath: string): Promise<boolean> {
  const hash = path.basename(storePath).slice(0, 32);
  const headers = { authorization: `Bearer ${await server.readToken()}` };
  return (await fetch(`${server.substituter}/${hash}.narinfo`, { headers })).status === 200;
}

const small = (name: string): string =>
  `mkPath { name = "${name}"; script = "echo ${name} > $out"; }`;
const withDependency = `mkPath {
  name = "watched";
  script = "echo $deps > $out";
  deps = [ (mkPath { name = "dependency"; script = "echo dependency > $out"; }) ];
}`;

describeEachNix("a watched store", (version) => {
  test("has what is built and added in the view soon after, and no derivations", async () => {
    await using server = await startFlywheel();
    await using nix = await createNixSandbox(version);
    const before = await nix.buildPath(small("before"));
    await using watch = await startWatch(nix, server);

    const built = await nix.buildPath(withDependency);
    const file = path.join(nix.directory, "added");
    await writeFile(file, randomUUID());
    const added = await nix.output("nix-store", ["--add", file]);
    await watch.pushed(built);
    await watch.pushed(added);

    const references = await nix.output("nix-store", ["--query", "--references", built]);
    expect(await isInView(server, references)).toBe(true);
    const derivation = await nix.output("nix-store", ["--query", "--deriver", built]);
    expect(await isInView(server, derivation)).toBe(false);
    // What was there when the watch began is left alone.
    expect(await isInView(server, before)).toBe(false);
    expect(await watch.stop()).toBe(0);
    expect(watch.events.at(-1)).toMatchObject({ type: "stopped", unpushed: [] });
    await nix.run("nix-store", ["--delete", added]);
  });
});

const [oldest] = findNixVersions();

describe.skipIf(oldest === undefined)("watch-store", () => {
  const openSandbox = async (): Promise<NixSandbox> => {
    if (oldest === undefined) throw new Error("There is no Nix");
    return createNixSandbox(oldest);
  };

  test.each(["SIGTERM", "SIGINT"] as const)(
    "%s ends it only after what is new was pushed",
    async (signal) => {
      await using server = await startFlywheel();
      await using nix = await openSandbox();
      await using watch = await startWatch(nix, server);
      const storePath = await nix.buildPath(small("last"));
      expect(await watch.stop(signal)).toBe(0);
      expect(await isInView(server, storePath)).toBe(true);
    },
  );

  test("nothing is lost when the server goes away and comes back", async () => {
    await using folder = await createTemporaryDirectory("flywheel-watch-");
    await using nix = await openSandbox();
    const dataDirectory = path.join(folder.path, "data");
    const first = await startFlywheel({ dataDirectory });
    await using watch = await startWatch(nix, first);
    const built = [await nix.buildPath(small("one"))];
    await watch.pushed(built[0] ?? "");
    first.kill("SIGKILL");
    await first.exited;
    for (const name of ["two", "three"]) built.push(await nix.buildPath(small(name)));
    await watch.find("retry", ({ type, code }) => type === "retry" && code === "UNAVAILABLE");
    built.push(await nix.buildPath(small("four")));

    await using second = await startFlywheel({
      dataDirectory,
      listen: new URL(first.url).host,
    });
    for (const storePath of built) {
      await watch.pushed(storePath);
      expect(await isInView(second, storePath)).toBe(true);
    }
    expect(await watch.stop()).toBe(0);
  });

  test("the end takes no longer than said, and names what is left", async () => {
    await using server = await startFlywheel();
    await using nix = await openSandbox();
    await using watch = await startWatch(nix, server, { words: ["--drain", "2s"] });
    await server.stop();
    const storePath = await nix.buildPath(small("left"));
    // Without an end to it the watch would go on trying.
    expect(await watch.stop()).toBe(1);
    expect(watch.events.at(-1)?.unpushed).toContain(storePath);
    expect(watch.stderr()).toMatch(/There was no time to push \/nix\/store\//);
  });

  test("a token that was replaced is read again", async () => {
    await using server = await startFlywheel();
    await using nix = await openSandbox();
    const tokenFile = path.join(nix.directory, "token");
    const run = (words: readonly string[]) =>
      runCommand(
        process.execPath,
        ["--conditions=source", MAIN, ...words, "--server", server.url],
        {
          env: { ...nix.env, FLYWHEEL_TOKEN: adminToken },
        },
      );
    const adminToken = await server.readToken();
    const create = ["token", "create", "--pull", "main", "--push", "main", "--json"];
    const { token, jti } = JSON.parse((await run(create)).stdout) as Record<string, string>;
    await writeFile(tokenFile, token ?? "");
    await using watch = await startWatch(nix, server, { tokenFile });
    expect(await run(["token", "revoke", jti ?? ""])).toMatchObject({ status: 0 });

    const storePath = await nix.buildPath(small("renewed"));
    await watch.find("refusal", ({ type, code }) => type === "retry" && code === "UNAUTHENTICATED");
    await writeFile(tokenFile, adminToken);
    await watch.pushed(storePath);
    expect(await watch.stop()).toBe(0);
  });

  test("what was substituted from the view itself is not sent again", async () => {
    await using server = await startFlywheel();
    await using nix = await openSandbox();
    const storePath = await nix.buildPath(small("returned"));
    const push = ["push", "--server", server.url, "--view", "main", storePath];
    const FLYWHEEL_TOKEN = await server.readToken();
    const command = ["--conditions=source", MAIN, ...push];
    await nix.output(process.execPath, command, { env: { FLYWHEEL_TOKEN } });
    await nix.output("nix-store", ["--delete", storePath]);

    await using watch = await startWatch(nix, server);
    await nix.configure({
      substituters: [server.substituter],
      trustedKeys: [server.publicKey],
      netrc: [{ password: FLYWHEEL_TOKEN }],
    });
    await nix.output("nix-store", ["--realise", storePath]);
    await watch.pushed(storePath);
    // Other tests build in the same store meanwhile, so only this path's uploads count.
    const hash = await nix.output("nix-store", ["--query", "--hash", storePath]);
    const uploads = server.logs().split(`/nars/${parseSha256Hex(hash)}"`).length - 1;
    expect(uploads).toBe(1);
  });

  test("three hundred paths at once are all there when it has ended", async () => {
    await using server = await startFlywheel();
    await using nix = await openSandbox();
    await using watch = await startWatch(nix, server);
    const files: string[] = [];
    for (let number = 0; number < 300; number += 1) {
      files.push(path.join(nix.directory, `file-${number}`));
      await writeFile(files.at(-1) ?? "", randomUUID());
    }
    const added = (await nix.output("nix-store", ["--add", ...files])).split("\n");
    expect(await watch.stop()).toBe(0);
    const missing: string[] = [];
    for (const storePath of added) {
      if (!(await isInView(server, storePath))) missing.push(storePath);
    }
    expect({ added: added.length, missing }).toEqual({ added: 300, missing: [] });
    await nix.run("nix-store", ["--delete", ...added]);
  });

  test("what an upstream has signed is left out", async () => {
    await using server = await startFlywheel();
    await using nix = await openSandbox();
    await using watch = await startWatch(nix, server);
    const key = path.join(nix.directory, "key");
    await writeFile(key, formatSecretKey(generateSecretKey("cache.nixos.org-1")));
    const storePath = await nix.buildPath(small("signed"));
    await nix.output("nix", ["store", "sign", "--key-file", key, storePath]);
    const event = await watch.pushed(storePath);
    expect(event.skipped).toBeGreaterThan(0);
    expect(await isInView(server, storePath)).toBe(false);
  });

  test("it ends by itself when it was quiet for as long as asked", async () => {
    await using server = await startFlywheel();
    await using nix = await openSandbox();
    const file = path.join(nix.directory, "quiet");
    await writeFile(file, randomUUID());
    await using watch = await startWatch(nix, server, { words: ["--once-quiet-for", "6s"] });
    // All that has to come within that time is one program, which builds nothing.
    const storePath = await nix.output("nix-store", ["--add", file]);
    expect(await watch.exited).toBe(0);
    expect(await isInView(server, storePath)).toBe(true);
    await nix.run("nix-store", ["--delete", storePath]);
  });
});
