import { gzipSync } from "node:zlib";

import type { NarInfo } from "@glorious/nix-store";
import { generateSecretKey, parseHash } from "@glorious/nix-store";
import { describe, expect, test, vi } from "vitest";

import {
  createUpstreamClient,
  type UpstreamClient,
  type UpstreamTarget,
} from "../../src/upstream/upstream-client.ts";
import {
  isFaultOfTheWay,
  UpstreamFault,
  type UpstreamFaultReason,
} from "../../src/upstream/upstream-fault.ts";
import type { UpstreamNarInfo } from "../../src/upstream/upstream-narinfo.ts";
import { createUpstreamReports } from "../../src/upstream/upstream-reports.ts";
import { createTestPath, type TestPath } from "../test-path.ts";
import { type Conduct, type FakeUpstream, sendFile, startFakeUpstream } from "./fake-upstream.ts";

interface World extends AsyncDisposable {
  readonly upstream: FakeUpstream;
  readonly client: UpstreamClient;
  /** Reasons that were counted. */
  readonly counted: string[];
  /** Reasons that were logged. */
  readonly logged: unknown[];
  readonly path: TestPath;
}

const signal = new AbortController().signal;
const question = { via: [], signal };

async function openWorld(target: Partial<UpstreamTarget> = {}, deadlineMs = 5000): Promise<World> {
  const upstream = await startFakeUpstream();
  const counted: string[] = [];
  const logged: unknown[] = [];
  const log = (_message: string, fields: Readonly<Record<string, unknown>> = {}): void =>
    void logged.push(fields["reason"]);
  const client = createUpstreamClient(
    {
      name: "u",
      url: upstream.url,
      publicKeys: [upstream.publicKey],
      authorization: undefined,
      storeDir: "/nix/store",
      ...target,
    },
    {
      deadlineMs,
      maxNarInfoBytes: 2 ** 16,
      maxNarBytes: 2 ** 30,
      maxDownloads: 4,
      narTimeoutMs: 300,
      reports: createUpstreamReports({
        logger: { debug: log, info: log, warn: log, error: log },
        onFault: (_upstream, reason) => counted.push(reason),
      }),
    },
  );
  return {
    upstream,
    client,
    counted,
    logged,
    path: await createTestPath("hello", "hello ".repeat(1000)),
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]();
      await upstream[Symbol.asyncDispose]();
    },
  };
}

async function requireNarInfo({ client, path }: World): Promise<UpstreamNarInfo> {
  const found = await client.narInfo(path.storePathHash, question);
  if (typeof found === "string") throw new Error(`The narinfo is ${found}`);
  return found;
}

/** The whole file, or the reason why there is none. */
async function readNar(world: World): Promise<Buffer | string> {
  const narInfo = await requireNarInfo(world);
  try {
    const { chunks } = await world.client.openNar(narInfo, signal);
    return Buffer.concat(await Array.fromAsync(chunks));
  } catch (error) {
    if (error instanceof UpstreamFault) return error.reason;
    throw error;
  }
}

test("a signed narinfo and its file are had, and nobody is asked for an encoding", async () => {
  await using world = await openWorld();
  const { url } = await world.upstream.add(world.path);
  expect((await requireNarInfo(world)).manifest).toMatchObject({
    storePath: world.path.storePath,
    narHash: world.path.narHash,
  });
  expect(await readNar(world)).toEqual(world.upstream.files.get(`/${url}`));
  expect(world.upstream.requests.map(({ headers }) => headers["accept-encoding"])).toEqual(
    world.upstream.requests.map(() => "identity"),
  );
  expect(world.counted).toEqual([]);
});

test("what it does not have is absent, and nothing is wrong with that", async () => {
  await using world = await openWorld();
  expect(await world.client.narInfo(world.path.storePathHash, question)).toBe("absent");
  expect(world.counted).toEqual([]);
});

describe("a narinfo that cannot be believed is a miss with one reason, one line, one count", () => {
  const other = generateSecretKey("upstream-1");
  const html: Conduct = (response) => response.end("<!doctype html><h1>Please sign in</h1>");
  const cases: Record<
    string,
    {
      readonly reason: UpstreamFaultReason;
      readonly add?: Parameters<FakeUpstream["add"]>[1];
      readonly conduct?: Conduct;
    }
  > = {
    "without a signature": { reason: "unsigned", add: { key: "none" } },
    "signed by a key of the same name": { reason: "wrong-signature", add: { key: other } },
    "signed by another key": { reason: "other-key", add: { key: generateSecretKey("new-2") } },
    "with another size than was signed": {
      reason: "wrong-signature",
      add: { changes: { narSize: 7 } },
    },
    "of another path": {
      reason: "wrong-path",
      add: { signed: { storePath: "/nix/store/g4rannyd4nga82vqv7x92hxc00dgx88p-tree" } },
    },
    "of another store directory": {
      reason: "store-dir",
      add: { signed: { storePath: "/gnu/store/g4rannyd4nga82vqv7x92hxc00dgx88p-tree" } },
    },
    "compressed as we do not decode": {
      reason: "compression",
      add: { changes: { compression: "bzip2" } },
    },
    "whose raw file has another hash than its NAR": {
      reason: "file-hash",
      add: { compression: "none", changes: { fileHash: parseHash("0".repeat(64), "sha256") } },
    },
    "that is a page for people": { reason: "not-narinfo", conduct: html },
    "that is nothing": { reason: "not-narinfo", conduct: (response) => response.end() },
    "that is a gzip bomb": {
      reason: "encoding",
      conduct: (response) =>
        response
          .writeHead(200, { "content-encoding": "gzip" })
          .end(gzipSync(Buffer.alloc(2 ** 24))),
    },
    "in an encoding nobody knows": {
      reason: "encoding",
      conduct: (response) => response.writeHead(200, { "content-encoding": "compress" }).end("x"),
    },
    "that never ends": {
      reason: "too-large",
      conduct: (response) => {
        const more = (): void => {
          while (!response.destroyed && response.write(Buffer.alloc(65_536, "x")));
        };
        response.on("drain", more);
        more();
      },
    },
    "that is a redirect loop": {
      reason: "redirects",
      conduct: (response) => response.writeHead(302, { location: "/again" }).end(),
    },
    "that is a redirect to nowhere": {
      reason: "redirects",
      conduct: (response) => response.writeHead(302, { location: "file:///etc/passwd" }).end(),
    },
    "that is a redirect to a private address": {
      reason: "private-address",
      conduct: (response) => response.writeHead(302, { location: "http://10.1.2.3/x" }).end(),
    },
    "that is a redirect to a cloud's own address": {
      reason: "private-address",
      conduct: (response) =>
        response.writeHead(307, { location: "http://169.254.169.254/latest/meta-data" }).end(),
    },
    "that is refused": { reason: "refused", conduct: (response) => response.writeHead(401).end() },
    "that is an error": { reason: "status", conduct: (response) => response.writeHead(500).end() },
    "that is too many questions": {
      reason: "rate-limited",
      conduct: (response) => response.writeHead(429, { "retry-after": "30" }).end(),
    },
    "that is cut": {
      reason: "unreachable",
      conduct: (response) => {
        response.writeHead(200, { "content-length": 500 }).write("StorePath");
        setImmediate(() => response.destroy());
      },
    },
  };

  test.each(Object.entries(cases))("%s", async (_title, { reason, add, conduct }) => {
    await using world = await openWorld();
    const { upstream, path, client } = world;
    await upstream.add(path, add);
    upstream.conduct("/again", (response) => response.writeHead(302, { location: "/again" }).end());
    if (conduct !== undefined) upstream.conduct(`/${path.storePathHash}.narinfo`, conduct);
    // What the path itself is wrong with is remembered, what the way to it is wrong with is not.
    expect(await client.narInfo(path.storePathHash, question)).toBe(
      isFaultOfTheWay(reason) ? "unknown" : "absent",
    );
    expect(world.counted).toEqual([reason]);
    expect(world.logged).toEqual([reason]);
  });

  test("again and again, it is counted each time and logged once a minute", async () => {
    await using world = await openWorld();
    await world.upstream.add(world.path, { key: "none" });
    for (let count = 0; count < 5; count += 1) {
      await world.client.narInfo(world.path.storePathHash, question);
    }
    expect(world.counted).toHaveLength(5);
    expect(world.logged).toEqual(["unsigned"]);
  });
});

test("all that a cache of another store directory has is absent", async () => {
  await using world = await openWorld();
  await world.upstream.add(world.path);
  world.upstream.files.set("/nix-cache-info", Buffer.from("StoreDir: /gnu/store\n"));
  expect(await world.client.narInfo(world.path.storePathHash, question)).toBe("absent");
  expect(world.counted).toEqual(["store-dir"]);
});

test("a cache that says nothing about itself is one all the same", async () => {
  await using world = await openWorld();
  await world.upstream.add(world.path);
  world.upstream.files.delete("/nix-cache-info");
  expect(await requireNarInfo(world)).toMatchObject({ compression: "zstd" });
});

test("an upstream whose clock is far off is believed by its signatures, and paused by our clock only", async () => {
  await using world = await openWorld();
  await world.upstream.add(world.path);
  const file = world.upstream.files.get(`/${world.path.storePathHash}.narinfo`) ?? Buffer.alloc(0);
  world.upstream.conduct(`/${world.path.storePathHash}.narinfo`, (response) => {
    response.writeHead(200, { date: "Thu, 01 Jan 1970 00:00:00 GMT" }).end(file);
  });
  expect(await requireNarInfo(world)).toMatchObject({ compression: "zstd" });
});

describe("a private upstream's credential", () => {
  test("goes to the upstream, and never to where its redirects lead", async () => {
    await using elsewhere = await startFakeUpstream();
    await using world = await openWorld({ authorization: "Bearer secret-of-the-upstream" });
    await world.upstream.add(world.path);
    const name = `/${world.path.storePathHash}.narinfo`;
    elsewhere.files.set(name, world.upstream.files.get(name) ?? Buffer.alloc(0));
    world.upstream.conduct(name, (response) => {
      response.writeHead(302, { location: `${elsewhere.url.slice(0, -1)}${name}` }).end();
    });
    await requireNarInfo(world);
    expect(world.upstream.requests[0]?.headers.authorization).toBe("Bearer secret-of-the-upstream");
    expect(elsewhere.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
    expect(JSON.stringify(world.logged)).not.toContain("secret");
  });

  test("that is refused with 403 is a fault, while without one 403 says absent", async () => {
    await using secret = await openWorld({ authorization: "Bearer x" });
    await using open = await openWorld();
    for (const { upstream, path, client } of [secret, open]) {
      upstream.conduct(`/${path.storePathHash}.narinfo`, (response) =>
        response.writeHead(403).end(),
      );
      await client.narInfo(path.storePathHash, question);
    }
    expect(secret.counted).toEqual(["refused"]);
    expect(open.counted).toEqual([]);
  });
});

describe("the breaker", () => {
  test("an upstream that hangs costs its deadline once, and is asked again off the request path", async () => {
    await using world = await openWorld({}, 200);
    await world.upstream.add(world.path);
    const name = `/${world.path.storePathHash}.narinfo`;
    world.upstream.conduct(name, () => {});
    expect(await world.client.narInfo(world.path.storePathHash, question)).toBe("unknown");
    expect(world.counted).toEqual(["timeout"]);
    expect(world.client.admits()).toBe(false);
    for (let count = 0; count < 10; count += 1) {
      expect(await world.client.narInfo(world.path.storePathHash, question)).toBe("unknown");
    }
    expect(world.upstream.count(name)).toBe(1);
    await vi.waitFor(
      async () => {
        // What asks is the probe, for something else than what hangs.
        await world.client.narInfo("0".repeat(32), question);
        expect(world.client.admits()).toBe(true);
      },
      { timeout: 10_000, interval: 100 },
    );
  });

  test("one that is not there is left alone after three questions", async () => {
    await using world = await openWorld();
    await world.upstream[Symbol.asyncDispose]();
    for (let count = 0; count < 5; count += 1) {
      expect(await world.client.narInfo(world.path.storePathHash, question)).toBe("unknown");
    }
    expect(world.counted.slice(0, 3)).toEqual(["unreachable", "unreachable", "unreachable"]);
    expect(world.client.admits()).toBe(false);
  });

  test.each([429, 503])("one that answers %i is left alone at once", async (status) => {
    await using world = await openWorld();
    world.upstream.conduct(`/${world.path.storePathHash}.narinfo`, (response) =>
      response.writeHead(status, { "retry-after": "Thu, 01 Jan 2099 00:00:00 GMT" }).end(),
    );
    await world.client.narInfo(world.path.storePathHash, question);
    expect(world.client.admits()).toBe(false);
  });

  test("wrong signatures of single paths do not keep the others away", async () => {
    await using world = await openWorld();
    for (let count = 0; count < 5; count += 1) {
      const bad = await createTestPath(`bad-${count}`);
      await world.upstream.add(bad, { key: "none" });
      await world.client.narInfo(bad.storePathHash, question);
    }
    await world.upstream.add(world.path);
    expect(await requireNarInfo(world)).toMatchObject({ compression: "zstd" });
  });
});

describe("a NAR", () => {
  const withConduct = async (
    conduct: (file: Buffer) => Conduct,
    add: Parameters<FakeUpstream["add"]>[1] = {},
  ): Promise<{ result: Buffer | string; file: Buffer; requests: number }> => {
    await using world = await openWorld();
    const { url } = await world.upstream.add(world.path, { compression: "none", ...add });
    const file = world.upstream.files.get(`/${url}`) ?? Buffer.alloc(0);
    world.upstream.conduct(`/${url}`, conduct(file));
    const result = await readNar(world);
    return { result, file, requests: world.upstream.count(`/${url}`) };
  };
  /** Sends so much and cuts the connection. */
  const cutAfter = (response: Parameters<Conduct>[0], bytes: Buffer): void => {
    response.write(bytes, () => setTimeout(() => response.destroy(), 20));
  };

  test("that is cut is resumed from where it was, as often as it gets further", async () => {
    const { result, file, requests } = await withConduct((whole) => (response, headers) => {
      const start = Number(/\d+/.exec(headers.range ?? "0")?.[0]);
      if (start + 2000 >= whole.length) {
        sendFile(response, headers, whole);
        return;
      }
      response.writeHead(start === 0 ? 200 : 206, {
        "content-length": whole.length - start,
        "accept-ranges": "bytes",
        ...(start === 0
          ? {}
          : { "content-range": `bytes ${start}-${whole.length - 1}/${whole.length}` }),
      });
      cutAfter(response, whole.subarray(start, start + 2000));
    });
    expect(result).toEqual(file);
    expect(requests).toBeGreaterThan(2);
  });

  test("that comes to a stop goes on with another connection", async () => {
    const { result, file } = await withConduct((whole) => (response, headers) => {
      if (headers.range !== undefined) {
        sendFile(response, headers, whole);
        return;
      }
      response.writeHead(200, { "content-length": whole.length, "accept-ranges": "bytes" });
      response.write(whole.subarray(0, 2000));
    });
    expect(result).toEqual(file);
  });

  test.each<[string, string, (whole: Buffer) => Conduct]>([
    ["that is not there", "nar-missing", () => (response) => response.writeHead(404).end()],
    [
      "of another length than was said",
      "length",
      () => (response) => response.writeHead(200, { "content-length": 17 }).end(Buffer.alloc(17)),
    ],
    [
      "that goes on after its end",
      "length",
      (whole) => (response) => {
        response.write(whole);
        const more = (): void => {
          while (!response.destroyed && response.write(Buffer.alloc(65_536)));
        };
        response.on("drain", more);
        more();
      },
    ],
    [
      "that is cut, without ranges",
      "cut",
      (whole) => (response) => {
        response.writeHead(200, { "content-length": whole.length });
        cutAfter(response, whole.subarray(0, 100));
      },
    ],
    [
      "that ends early without a length",
      "cut",
      (whole) => (response) => {
        response.write(whole.subarray(0, 100));
        response.end();
      },
    ],
    [
      "whose rest is the whole again",
      "cut",
      (whole) => (response) => {
        response.writeHead(200, { "content-length": whole.length, "accept-ranges": "bytes" });
        cutAfter(response, whole.subarray(0, 100));
      },
    ],
    [
      "whose rest is refused",
      "refused",
      (whole) => (response, headers) => {
        if (headers.range !== undefined) {
          response.writeHead(401).end();
          return;
        }
        response.writeHead(200, { "content-length": whole.length, "accept-ranges": "bytes" });
        cutAfter(response, whole.subarray(0, 100));
      },
    ],
    ["that never begins", "timeout", () => () => {}],
    [
      "that stops in the middle",
      "stalled",
      (whole) => (response) => {
        response.writeHead(200, { "content-length": whole.length });
        response.write(whole.subarray(0, 100));
      },
    ],
    [
      "that is encoded once more",
      "encoding",
      (whole) => (response) =>
        response.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync(whole)),
    ],
    [
      "at a private address",
      "private-address",
      () => (response) => response.writeHead(302, { location: "http://192.168.0.1/" }).end(),
    ],
  ])("%s is %s", async (_title, reason, conduct) => {
    expect((await withConduct(conduct)).result).toBe(reason);
  });

  test("of no said length may be no larger than its NAR can need", async () => {
    const endless: Conduct = (response) => {
      const more = (): void => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536)));
      };
      response.on("drain", more);
      more();
    };
    const { result } = await withConduct(() => endless, {
      compression: "gzip",
      withoutFileHash: true,
    });
    expect(result).toBe("too-large");
  });

  test("at an address of its own is fetched there, without the credential", async () => {
    await using elsewhere = await startFakeUpstream();
    await using world = await openWorld({ authorization: "Bearer secret" });
    const url = `${elsewhere.url}far.nar`;
    const changes: Partial<NarInfo> = { url };
    await world.upstream.add(world.path, { compression: "none", changes });
    elsewhere.files.set("/far.nar", world.path.nar);
    expect(await readNar(world)).toEqual(world.path.nar);
    expect(elsewhere.requests[0]?.headers.authorization).toBeUndefined();
  });
});
