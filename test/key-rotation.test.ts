import { createHash } from "node:crypto";
import { rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import {
  type AdminClient,
  createAdminClient,
  dumpStorePath,
  openCache,
  queryClosure,
} from "@glorious/cache-client";
import {
  encodeNix32,
  narInfoFingerprint,
  parseNarInfo,
  parsePublicKey,
  verifySignature,
} from "@glorious/nix-store";
import {
  createNixSandbox,
  createTemporaryDirectory,
  describeEachNix,
  type NixVersion,
  type RunningFlywheel,
  runCommand,
  startFlywheel,
} from "@glorious/testkit";
import { expect, test } from "vitest";

const LAUNCHER = fileURLToPath(new URL("../bin/flywheel", import.meta.url));

async function flywheel(server: RunningFlywheel, ...words: readonly string[]): Promise<string> {
  const target = ["--server", server.url, "--token-file", server.tokenFile, "--view", server.view];
  const { status, stdout, stderr } = await runCommand(LAUNCHER, [...words, ...target]);
  expect({ status, stderr }).toMatchObject({ status: 0 });
  return stdout.trim();
}

/** Whether a new machine that trusts these keys gets every path, each into a store of its own. */
async function canSubstitute(
  version: NixVersion,
  server: RunningFlywheel,
  trustedKeys: readonly string[],
  storePaths: readonly string[],
): Promise<boolean[]> {
  // A machine of its own, because Nix remembers narinfos with their signatures.
  await using client = await createNixSandbox(version, {
    trustedKeys,
    netrc: [{ password: await server.readToken() }],
  });
  const results: boolean[] = [];
  for (const storePath of storePaths) {
    const store = await client.createStore();
    const { status, stderr } = await client.substitute(storePath, {
      from: server.substituter,
      store,
    });
    if (status !== 0) expect(stderr).toMatch(/signature|required|substitut/);
    results.push(status === 0);
  }
  return results;
}

describeEachNix("a key rotation", (version) => {
  test("two of them go by without a client noticing, and a retired key is refused", async () => {
    await using server = await startFlywheel();
    const token = await server.readToken();
    await using builder = await createNixSandbox(version);
    await using cache = await openCache({ server: server.url, view: server.view, token });
    const nix = path.join(version.binDirectory, "nix");
    const storePaths: string[] = [];
    const push = async (name: string): Promise<void> => {
      const storePath = await builder.buildPath(`mkPath {
        name = "${name}";
        script = "echo $deps > $out";
        deps = [ (mkPath { name = "dependency-of-${name}"; script = "echo $unique > $out"; }) ];
      }`);
      await cache.push(await queryClosure([storePath], { recursive: true, nix }));
      storePaths.push(storePath);
    };
    /** The same machine all along: it remembers what it saw, and only ever learns keys. */
    await using veteran = await createNixSandbox(version, {
      trustedKeys: [server.publicKey],
      netrc: [{ password: token }],
    });
    const veteranGetsAll = async (): Promise<void> => {
      for (const storePath of storePaths) {
        const store = await veteran.createStore();
        const got = await veteran.substitute(storePath, { from: server.substituter, store });
        expect(got, got.stderr).toMatchObject({ status: 0 });
      }
    };
    await push("before");
    await veteranGetsAll();

    const learned = [server.publicKey];
    let old = server.publicKey;
    for (const round of ["first", "second"]) {
      const rotated = await flywheel(server, "key", "rotate", "--wait");
      expect(rotated.split(":")[0]).not.toBe(old.split(":")[0]);
      await push(`after-${round}`);

      const all = storePaths.map(() => true);
      await veteranGetsAll();
      expect(await canSubstitute(version, server, [old], storePaths)).toEqual(all);
      expect(await canSubstitute(version, server, [rotated], storePaths)).toEqual(all);

      learned.push(rotated);
      await veteran.configure({ trustedKeys: learned, netrc: [{ password: token }] });
      await flywheel(server, "key", "retire", old.split(":")[0] ?? "", "--wait");

      await veteranGetsAll();
      expect(await canSubstitute(version, server, [rotated], storePaths)).toEqual(all);
      expect(await canSubstitute(version, server, [old], storePaths)).toEqual(
        storePaths.map(() => false),
      );
      old = rotated;
    }

    // What docs/how-to/rotate-keys.md warns of: a remembered narinfo has the signatures of its time.
    await veteran.configure({ trustedKeys: [old], netrc: [{ password: token }] });
    const [before = ""] = storePaths;
    const again = async (): Promise<number> => {
      const store = await veteran.createStore();
      return (await veteran.substitute(before, { from: server.substituter, store })).status;
    };
    expect(await again()).not.toBe(0);
    await rm(path.join(veteran.home, ".cache", "nix"), { recursive: true });
    expect(await again()).toBe(0);

    const { keys } = JSON.parse(await flywheel(server, "key", "list", "--json"));
    expect(keys).toMatchObject([{ publicKey: old }]);
  });
});

const PATHS = 2000;

interface MadeUp {
  /** Commits paths of these names, all with the same NAR. */
  commit(names: readonly string[]): Promise<void>;
}

/** Paths that no Nix built, with one small NAR between them. */
async function uploadNar(server: RunningFlywheel): Promise<MadeUp> {
  await using directory = await createTemporaryDirectory("flywheel-keys-");
  const file = path.join(directory.path, "file");
  await writeFile(file, "one file for all");
  const pieces: Uint8Array[] = [];
  for await (const piece of dumpStorePath(file)) pieces.push(piece);
  const nar = Buffer.concat(pieces);
  const narHash = createHash("sha256").update(nar).digest("hex");
  const api = `${server.url}/_flywheel/v1/views/${server.view}`;
  const authorization = `Bearer ${await server.readToken()}`;
  const uploaded = await fetch(`${api}/nars/${narHash}?size=${nar.length}&compression=none`, {
    method: "PUT",
    headers: { authorization },
    body: nar,
  });
  expect(uploaded.status).toBe(200);
  return {
    async commit(names) {
      const paths = names.map((name) => ({
        storePath: `/nix/store/${hashOf(name)}-${name}`,
        narHash,
        narSize: nar.length,
        references: [],
        signatures: [],
      }));
      const committed = await fetch(`${api}/closures`, {
        method: "POST",
        headers: { authorization, "content-type": "application/json" },
        body: JSON.stringify({ paths, externalReferences: [] }),
      });
      expect(committed.status).toBe(200);
    },
  };
}

function hashOf(name: string): string {
  return encodeNix32(createHash("sha256").update(name).digest().subarray(0, 20));
}

async function openAdmin(server: RunningFlywheel): Promise<AdminClient> {
  return createAdminClient({ server: server.url, token: await server.readToken() });
}

/** Waits until the view is signed, and checks that each path has a good signature of each key, and no other. */
async function expectSigned(server: RunningFlywheel, names: readonly string[]): Promise<void> {
  await using admin = await openAdmin(server);
  while ((await admin.listKeys(server.view)).outdatedPaths > 0) await sleep(20);
  const { keys } = await admin.listKeys(server.view);
  const publicKeys = keys.map(({ publicKey }) => parsePublicKey(publicKey));
  const headers = { authorization: `Bearer ${await server.readToken()}` };
  const wrong: string[] = [];
  for (const name of names) {
    const answer = await fetch(`${server.substituter}/${hashOf(name)}.narinfo`, { headers });
    const info = parseNarInfo(await answer.text());
    const fingerprint = narInfoFingerprint(info);
    const isSigned =
      info.signatures.length === publicKeys.length &&
      publicKeys.every((key) =>
        info.signatures.some((signature) => verifySignature([key], fingerprint, signature)),
      );
    if (!isSigned) wrong.push(name);
  }
  expect(wrong).toEqual([]);
}

function namesOf(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, number) => `${prefix}-${number}`);
}

test("what is pushed while a view is being signed anew has every key's signature", async () => {
  await using server = await startFlywheel();
  const madeUp = await uploadNar(server);
  const names = namesOf("there", PATHS);
  await madeUp.commit(names);
  await using admin = await openAdmin(server);

  const state = { isSigned: false, sawOutdated: false };
  const push = async (worker: number): Promise<void> => {
    for (let round = 0; !state.isSigned || round < 3; round += 1) {
      const batch = namesOf(`pushed-${worker}-${round}`, 3);
      // One that is there already comes along: it is committed anew under the re-signer's hands.
      await madeUp.commit([...batch, `there-${(worker * 500 + round) % PATHS}`]);
      names.push(...batch);
    }
  };
  const watch = async (): Promise<void> => {
    await admin.addKey(server.view);
    await admin.addKey(server.view);
    while (!state.isSigned) {
      const { outdatedPaths } = await admin.listKeys(server.view);
      state.sawOutdated ||= outdatedPaths > 0;
      state.isSigned = outdatedPaths === 0;
    }
  };
  await Promise.all([push(0), push(1), push(2), watch()]);

  expect(state.sawOutdated).toBe(true);
  await expectSigned(server, names);
});

test("a server that is killed in the middle of signing anew ends it after its restart", async () => {
  await using directory = await createTemporaryDirectory("flywheel-keys-");
  const dataDirectory = path.join(directory.path, "data");
  const names = namesOf("kept", PATHS);
  {
    await using server = await startFlywheel({ dataDirectory });
    const madeUp = await uploadNar(server);
    await madeUp.commit(names);
    await using admin = await openAdmin(server);
    await killInTheMiddle(server, admin);
  }

  await using server = await startFlywheel({ dataDirectory });
  await expectSigned(server, names);
  const signed = server
    .logs()
    .split("\n")
    .filter((line) => line.includes("signed a view's paths anew"))
    .map((line) => Number(JSON.parse(line).paths));
  expect(signed).toEqual([expect.any(Number)]);
  expect(signed[0]).toBeLessThan(PATHS);
});

/** Adds keys until the server has been caught with a part of the paths signed. */
async function killInTheMiddle(server: RunningFlywheel, admin: AdminClient): Promise<void> {
  for (let attempt = 1; attempt <= 6; attempt += 1) {
    await admin.addKey(server.view);
    for (;;) {
      const { outdatedPaths } = await admin.listKeys(server.view);
      if (outdatedPaths === 0) break;
      if (outdatedPaths === PATHS) continue;
      server.kill("SIGKILL");
      expect(await server.exited).toBe(137);
      return;
    }
  }
  throw new Error("The server signed everything each time before it could be killed");
}
