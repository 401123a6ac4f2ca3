import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { createAdminClient, dumpStorePath, openCache, queryClosure } from "@glorious/cache-client";
import { encodeNix32, parseNarInfo } from "@glorious/nix-store";
import {
  createNixSandbox,
  createTemporaryDirectory,
  describeEachNix,
  type NixSandbox,
  type RunningFlywheel,
  runCommand,
  startFlywheel,
} from "@glorious/testkit";
import { expect, test } from "vitest";

const LAUNCHER = fileURLToPath(new URL("../bin/flywheel", import.meta.url));
/** What was used within this time stays; short, so that a test need not wait for an hour. */
const RESOLUTION_MS = 300;
const QUICK = {
  FLYWHEEL_RETENTION_ACCESS_RESOLUTION: `${RESOLUTION_MS}ms`,
  FLYWHEEL_RETENTION_COLLECT_INTERVAL: "10d",
};

async function flywheel(server: RunningFlywheel, ...words: readonly string[]): Promise<string> {
  const target = ["--server", server.url, "--token-file", server.tokenFile];
  const { status, stdout, stderr } = await runCommand(LAUNCHER, [...words, ...target]);
  expect({ status, stderr }).toMatchObject({ status: 0 });
  return stdout.trim();
}

interface Report {
  readonly examined: number;
  readonly deleted: number;
  readonly roots: number;
}

async function collect(server: RunningFlywheel, ...words: readonly string[]): Promise<Report> {
  const answer: { readonly views: readonly Report[] } = JSON.parse(
    await flywheel(server, "gc", server.view, "--json", ...words),
  );
  const [report] = answer.views;
  if (report === undefined) throw new Error("Nothing was collected");
  return report;
}

/** A path with a dependency of its own and one that all of them share. */
function expression(name: string): string {
  return `let shared = mkPath { name = "shared"; script = "echo all > $out"; }; in mkPath {
    name = "${name}";
    script = "echo $deps > $out; head -c 30000 /dev/urandom >> $out";
    deps = [ shared (mkPath { name = "only-${name}"; script = "echo $unique > $out"; }) ];
  }`;
}

async function hasClosure(
  client: NixSandbox,
  server: RunningFlywheel,
  storePath: string,
): Promise<boolean> {
  const store = await client.createStore();
  const { status } = await client.substitute(storePath, { from: server.substituter, store });
  return status === 0;
}

describeEachNix("retention", (version) => {
  test("a pinned closure outlives a limit that takes the others, and Nix gets it whole", async () => {
    await using server = await startFlywheel({ env: QUICK });
    const token = await server.readToken();
    await using builder = await createNixSandbox(version);
    await using cache = await openCache({ server: server.url, view: server.view, token });
    const nix = path.join(version.binDirectory, "nix");
    const [release, other] = [
      await builder.buildPath(expression("release")),
      await builder.buildPath(expression("other")),
    ];
    for (const storePath of [release, other]) {
      await cache.push(await queryClosure([storePath], { recursive: true, nix }));
    }
    const inView = ["--view", server.view];
    await flywheel(server, "path", "pin", release, "--name", "release", ...inView);
    await flywheel(server, "view", "configure", server.view, "--max-size", "1KiB");
    await sleep(3 * RESOLUTION_MS);

    const planned = await collect(server, "--dry-run");
    expect(planned).toMatchObject({ roots: 1, deleted: planned.examined - 3 });
    expect(planned.deleted).toBeGreaterThanOrEqual(2);
    expect(await collect(server)).toMatchObject({ deleted: planned.deleted });

    // A machine of its own each time: Nix remembers what it saw.
    const options = { trustedKeys: [server.publicKey], netrc: [{ password: token }] };
    await using client = await createNixSandbox(version, options);
    expect(await hasClosure(client, server, release)).toBe(true);
    expect(await hasClosure(client, server, other)).toBe(false);

    const { pins } = JSON.parse(await flywheel(server, "path", "pins", "--json", ...inView));
    expect(pins).toMatchObject([{ name: "release", storePath: release }]);
    await flywheel(server, "path", "unpin", "release", ...inView);
    await sleep(3 * RESOLUTION_MS);
    expect(await collect(server)).toMatchObject({ roots: 0, deleted: 3 });
    await using late = await createNixSandbox(version, options);
    expect(await hasClosure(late, server, release)).toBe(false);

    // What is gone comes back with the next push.
    await cache.push(await queryClosure([release], { recursive: true, nix }));
    await using again = await createNixSandbox(version, options);
    expect(await hasClosure(again, server, release)).toBe(true);
  });
});

test("what `flywheel push` encodes has the level that the view wants", async () => {
  await using server = await startFlywheel();
  const token = await server.readToken();
  await using directory = await createTemporaryDirectory("flywheel-level-");
  const file = path.join(directory.path, "file");
  const lines = Array.from({ length: 50_000 }, (_, line) => `${line * 7919} ${line % 97}`);
  await writeFile(file, lines.join("\n"));
  const pieces: Uint8Array[] = [];
  for await (const piece of dumpStorePath(file)) pieces.push(piece);
  const nar = Buffer.concat(pieces);
  await using admin = createAdminClient({ server: server.url, token });
  const fileBytes: number[] = [];
  for (const level of ["1", "17"]) {
    const view = `level${level}`;
    await flywheel(server, "view", "create", view);
    await flywheel(server, "view", "configure", view, "--compression-level", level);
    await using cache = await openCache({ server: server.url, view, token });
    const narHash = createHash("sha256").update(nar).digest("hex");
    const storePath = {
      storeDir: "/nix/store",
      hash: hashOf("numbers"),
      name: "numbers",
      baseName: `${hashOf("numbers")}-numbers`,
      path: `/nix/store/${hashOf("numbers")}-numbers`,
    };
    const facts = { narHash, narSize: nar.length, references: [], signatures: [] };
    await cache.push([{ storePath, realPath: file, ...facts }]);
    fileBytes.push((await admin.viewStats(view)).fileBytes);
  }
  expect(fileBytes[1]).toBeLessThan(fileBytes[0] ?? 0);
});

function hashOf(name: string): string {
  return encodeNix32(createHash("sha256").update(name).digest().subarray(0, 20));
}

interface Traffic {
  /** Commits closures of `names`, each a path and one it refers to, all with NARs of their own. */
  push(names: readonly string[]): Promise<void>;
  /**
   * Reads a path and what it refers to, as Nix does: narinfos, then NARs. Answers whether it is there, and throws when
   * what is served is incomplete.
   */
  pull(name: string): Promise<boolean>;
}

/** Pushes and pulls made-up paths, without the time that a real Nix takes. */
async function openTraffic(server: RunningFlywheel): Promise<Traffic> {
  const authorization = `Bearer ${await server.readToken()}`;
  const api = `${server.url}/_flywheel/v1/views/${server.view}`;
  await using directory = await createTemporaryDirectory("flywheel-traffic-");
  const file = path.join(directory.path, "file");
  const narOf = async (name: string): Promise<Buffer> => {
    await writeFile(file, `what ${name} holds`);
    const pieces: Uint8Array[] = [];
    for await (const piece of dumpStorePath(file)) pieces.push(piece);
    return Buffer.concat(pieces);
  };
  const [template] = [await narOf("##########")];
  /** The same shape for names of the same length. */
  const fill = (name: string): Buffer =>
    Buffer.from(template.toString("latin1").replace("##########", name.padEnd(10, ".")), "latin1");
  const describePath = (name: string, references: readonly string[]): object => {
    const nar = fill(name);
    return {
      storePath: `/nix/store/${hashOf(name)}-${name}`,
      narHash: createHash("sha256").update(nar).digest("hex"),
      narSize: nar.length,
      references: references.map((other) => `${hashOf(other)}-${other}`),
      signatures: [],
    };
  };
  const ask = async (url: string, json: unknown): Promise<Response> =>
    fetch(url, {
      method: "POST",
      headers: { authorization, "content-type": "application/json" },
      body: JSON.stringify(json),
    });
  const upload = async (name: string): Promise<void> => {
    const nar = fill(name);
    const narHash = createHash("sha256").update(nar).digest("hex");
    const url = `${api}/nars/${narHash}?size=${nar.length}&compression=none`;
    const put = await fetch(url, { method: "PUT", headers: { authorization }, body: nar });
    expect(put.status).toBe(200);
  };
  const read = async (hash: string): Promise<readonly string[] | undefined> => {
    const headers = { authorization };
    const answer = await fetch(`${server.substituter}/${hash}.narinfo`, { headers });
    const text = await answer.text();
    if (answer.status === 404) return undefined;
    expect(answer.status).toBe(200);
    const info = parseNarInfo(text);
    const nar = await fetch(`${server.substituter}/${info.url}`, { headers });
    expect({ status: nar.status, path: info.storePath }).toMatchObject({ status: 200 });
    expect((await nar.arrayBuffer()).byteLength).toBe(info.fileSize);
    return info.references;
  };
  return {
    async push(names) {
      const paths = names.flatMap((name) => [
        describePath(name, [`d${name}`]),
        describePath(`d${name}`, []),
      ]);
      for (let attempt = 0; ; attempt += 1) {
        const nars = names.flatMap((name) => [name, `d${name}`]);
        while (nars.length > 0) await Promise.all(nars.splice(0, 20).map(upload));
        const answer = await ask(`${api}/closures`, { paths, externalReferences: [] });
        if (answer.status === 200) return;
        // Collected between question and commit: the client sends it again, as ours does.
        expect({ status: answer.status, attempt }).toEqual({ status: 409, attempt: 0 });
      }
    },
    async pull(name) {
      const beginMs = performance.now();
      const references = await read(hashOf(name));
      if (references === undefined) return false;
      for (const reference of references) {
        const hash = reference.slice(0, 32);
        // A reader that sees a path has used it, and so what it needs.
        requireThere(reference, (await read(hash)) !== undefined, beginMs);
      }
      return true;
    },
  };
}

/** Nothing that was used since then is collected; when more time has passed, it may be. */
function requireThere(name: string, isThere: boolean, usedAtMs: number): void {
  const isRecent = performance.now() - usedAtMs < RESOLUTION_MS;
  expect({ name, isThere: isThere || !isRecent }).toEqual({ name, isThere: true });
}

const COUNT = 300;

function nameOf(number: number): string {
  return `p${number}`;
}

test("while collections, pushes and pulls run, whatever is served is complete", async () => {
  await using server = await startFlywheel({ env: QUICK });
  await using admin = createAdminClient({ server: server.url, token: await server.readToken() });
  const traffic = await openTraffic(server);
  await traffic.push(Array.from({ length: COUNT }, (_, number) => nameOf(number)));
  await admin.configureView(server.view, { maxSizeBytes: 1 });
  const counts = { isOver: false, pulled: 0, absent: 0, pushed: 0, deleted: 0 };
  const puller = async (seed: number): Promise<void> => {
    for (let step = seed; !counts.isOver; step += 37) {
      if (await traffic.pull(nameOf(step % COUNT))) counts.pulled += 1;
      else counts.absent += 1;
    }
  };
  const pusher = async (seed: number): Promise<void> => {
    for (let step = seed; !counts.isOver; step += 41) {
      const name = nameOf(step % COUNT);
      const beginMs = performance.now();
      await traffic.push([name]);
      requireThere(name, await traffic.pull(name), beginMs);
      counts.pushed += 1;
    }
  };
  const collector = async (): Promise<void> => {
    const isEnough = (): boolean => counts.pushed >= 50 && counts.deleted >= COUNT;
    for (let round = 0; round < 40 || !isEnough(); round += 1) {
      counts.deleted += (await admin.collectView(server.view)).deleted;
      await sleep(20);
    }
    counts.isOver = true;
  };
  try {
    await Promise.all([puller(0), puller(11), pusher(5), collector()]);
  } finally {
    counts.isOver = true;
  }
  expect(counts.deleted).toBeGreaterThanOrEqual(COUNT);
  expect(counts.pulled).toBeGreaterThan(0);
  expect(counts.absent).toBeGreaterThan(0);
});

test("a server killed in the middle of a collection leaves only work for the next one", async () => {
  await using directory = await createTemporaryDirectory("flywheel-killed-");
  const dataDirectory = path.join(directory.path, "data");
  const start = (): Promise<RunningFlywheel> => startFlywheel({ env: QUICK, dataDirectory });
  const names = Array.from({ length: 1000 }, (_, number) => nameOf(number));
  let examined = 2 * names.length;
  {
    await using server = await start();
    const traffic = await openTraffic(server);
    for (let begin = 0; begin < names.length; begin += 500) {
      await traffic.push(names.slice(begin, begin + 500));
    }
    await flywheel(server, "view", "configure", server.view, "--max-size", "0");
  }
  for (const kill of [true, true, false]) {
    await using server = await start();
    await using admin = createAdminClient({ server: server.url, token: await server.readToken() });
    const before = (await admin.viewStats(server.view)).paths;
    const collecting = admin.collectView(server.view);
    if (!kill) {
      expect(await collecting).toMatchObject({ examined: before, deleted: before });
      expect((await admin.viewStats(server.view)).paths).toBe(0);
      continue;
    }
    collecting.catch(() => {});
    while ((await admin.viewStats(server.view)).paths === before) await sleep(1);
    server.kill("SIGKILL");
    await server.exited;
    expect(before).toBeLessThanOrEqual(examined);
    examined = before;
  }
});
