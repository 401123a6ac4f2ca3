import { readdir } from "node:fs/promises";

import { silentLogger } from "@glorious/core";
import { createTemporaryDirectory, startFaultProxy } from "@glorious/testkit";
import { describe, expect, test, vi } from "vitest";

import { createFixedCredentials, type Credentials } from "../src/credentials.ts";
import type { NixUpstream } from "../src/nix-face/nix-cache.ts";
import { type NixFace, startNixFace } from "../src/nix-face/start-nix-face.ts";
import { createStatistics, type NixFigures, type Statistics } from "../src/statistics.ts";
import {
  type CachedPath,
  createCachedPath,
  type Script,
  type ScriptedCache,
  sendFile,
  startScriptedCache,
} from "./scripted-nix-cache.ts";

interface Scene extends AsyncDisposable {
  readonly face: NixFace;
  readonly cache: ScriptedCache;
  readonly statistics: Statistics;
  readonly spoolDirectory: string;
  figures(): Partial<NixFigures>;
  get(name: string, options?: RequestInit): Promise<Response>;
  /** Moves the clock of breaker and memory. */
  pass(ms: number): void;
}

interface SceneOptions {
  readonly kind?: NixUpstream["kind"];
  readonly credentials?: Credentials;
  readonly port?: number;
  /** Views that are read besides, each with a cache of its own. */
  readonly extra?: readonly NixUpstream[];
  readonly prefetch?: boolean;
  readonly prefetchMaxBytes?: number;
  readonly spoolBytes?: number;
  readonly deadlineMs?: number;
  /** What every look at the clock adds: answers of a cache that is far away take their time. */
  readonly tickMs?: number;
}

const SHORT = { deadlineMs: 400 };

async function startScene(
  paths: readonly CachedPath[],
  options: SceneOptions = {},
): Promise<Scene> {
  await using opened = new AsyncDisposableStack();
  const cache = opened.use(await startScriptedCache(paths));
  const directory = opened.use(await createTemporaryDirectory("nix-face-"));
  const statistics = createStatistics();
  let nowMs = 0;
  const server = `http://127.0.0.1:${options.port ?? cache.port}`;
  const { kind = "flywheel", credentials = createFixedCredentials("token") } = options;
  const { tickMs = 0, ...rest } = options;
  const face = opened.use(
    await startNixFace({
      secret: "secret",
      upstream: { ...upstreamOf(server, "main"), kind },
      spoolDirectory: directory.path,
      // Long, so that a busy machine misses nothing; what is to be waited for in vain says `SHORT`.
      deadlineMs: 20_000,
      stallMs: 300,
      statistics,
      logger: silentLogger,
      ...rest,
      credentials,
      nowMs: () => (nowMs += tickMs),
    }),
  );
  const owned = opened.move();
  return {
    face,
    cache,
    statistics,
    spoolDirectory: directory.path,
    figures: () => statistics.snapshot().nix ?? {},
    get: (name, init) => fetch(`${face.url}/${name}`, init),
    pass(ms) {
      nowMs += ms;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function upstreamOf(server: string, view: string): NixUpstream {
  const api = new URL(`${server}/_flywheel/v1/`);
  return { kind: "flywheel", substituterUrl: `${server}/${view}`, api, view };
}

async function bytesOf(answer: Response): Promise<Buffer> {
  return Buffer.from(await answer.arrayBuffer());
}

/** Two levels below the top. */
async function createClosure(): Promise<readonly [CachedPath, CachedPath, CachedPath]> {
  const leaf = await createCachedPath("leaf");
  const middle = await createCachedPath("middle", [leaf]);
  return [await createCachedPath("top", [middle, leaf]), middle, leaf];
}

const isClosure = (line: string): boolean => line.endsWith("/closure");
const isNar = (line: string): boolean => line.includes("/nar/");

describe("a path secret", () => {
  test("keeps out who does not know it, and so does everything that Nix does not ask", async () => {
    const [top] = await createClosure();
    await using scene = await startScene([top]);
    const { origin } = new URL(scene.face.url);
    await scene.get("nix-cache-info");
    const before = scene.cache.asked.length;
    for (const path of [
      "/",
      `/${top.hash}.narinfo`,
      `/secre/${top.hash}.narinfo`,
      `/secretx/${top.url}`,
      "/secret/",
      "/secret/log/x.drv",
      "/secret/nar/../../_flywheel/v1/info",
      "/secret/nar/..%2f..",
    ]) {
      expect((await fetch(`${origin}${path}`)).status, path).toBe(404);
    }
    const put = await scene.get(`${top.hash}.narinfo`, { method: "PUT", body: "x" });
    expect(put.status).toBe(404);
    expect(scene.cache.asked.slice(before)).toEqual([]);
  });
});

describe("a closure", () => {
  test("comes with the first narinfo, and its NARs before Nix asks for them", async () => {
    const paths = await createClosure();
    await using scene = await startScene(paths);
    for (const { hash, narinfo } of paths) {
      const answer = await scene.get(`${hash}.narinfo`);
      expect([answer.status, await answer.text()]).toEqual([200, narinfo]);
    }
    await expect.poll(() => scene.figures().prefetched).toBe(paths.length);
    const before = scene.cache.asked.length;
    for (const { url, file } of paths) {
      const answer = await scene.get(url);
      expect(answer.headers.get("content-length")).toBe(String(file.length));
      expect(await bytesOf(answer)).toEqual(file);
    }
    expect(scene.cache.asked.slice(before)).toEqual([]);
    expect(scene.cache.asked.filter(isClosure)).toHaveLength(1);
    expect(new Set(scene.cache.tokens)).toEqual(new Set(["token"]));
    expect(scene.figures()).toMatchObject({ narinfos: 3, hits: 3, prefetched: 3 });
  });

  test("is asked for by one request for all that Nix asks at once", async () => {
    const paths = await Promise.all(["a", "b", "c"].map((name) => createCachedPath(name)));
    await using scene = await startScene(paths);
    await Promise.all([...paths, ...paths].map(({ hash }) => scene.get(`${hash}.narinfo`)));
    expect(scene.cache.asked.filter(isClosure).length).toBeLessThanOrEqual(3);
    expect(scene.cache.asked.filter((line) => line.endsWith(".narinfo"))).toEqual([]);
  });

  test("is followed page by page, whatever Nix asks meanwhile", async () => {
    const leaves = await Promise.all(
      Array.from({ length: 1100 }, (_, at) => createCachedPath(`leaf-${at}`)),
    );
    const top = await createCachedPath("top", leaves);
    await using scene = await startScene([top, ...leaves], {
      prefetchMaxBytes: 0,
    });
    await scene.get(`${top.hash}.narinfo`);
    const answers = await Promise.all(leaves.map(({ hash }) => scene.get(`${hash}.narinfo`)));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    expect(scene.cache.asked.filter(isClosure).length).toBeLessThan(4);
  });

  test.each(["attic", "plain", "flywheel"] as const)(
    "of a %s cache without the route is asked for path by path, ahead",
    async (kind) => {
      const paths = await createClosure();
      await using scene = await startScene(paths, { kind });
      scene.cache.script = (request, response) => {
        if (!isClosure(request.url ?? "")) return false;
        response.writeHead(404).end();
        return true;
      };
      expect((await scene.get(`${paths[0].hash}.narinfo`)).status).toBe(200);
      const narinfos = (): number =>
        new Set(scene.cache.asked.filter((line) => line.endsWith(".narinfo"))).size;
      await expect.poll(() => narinfos()).toBe(3);
      for (const { hash, url, file } of paths) {
        await scene.get(`${hash}.narinfo`);
        expect(await bytesOf(await scene.get(url))).toEqual(file);
      }
    },
  );

  test("is not asked for where reading ahead is off", async () => {
    const paths = await createClosure();
    await using scene = await startScene(paths, { prefetch: false });
    expect((await scene.get(`${paths[0].hash}.narinfo`)).status).toBe(200);
    expect((await scene.get(paths[0].url)).status).toBe(200);
    expect(scene.cache.asked.toSorted()).toEqual(
      [`GET /main/${paths[0].hash}.narinfo`, `GET /main/${paths[0].url}`].toSorted(),
    );
  });
});

/** What a server may do instead of answering, and what the miss is counted as. */
const TROUBLES: Readonly<Record<string, readonly [Script, keyof NixFigures["misses"]]>> = {
  "status 500": [(_, response) => (response.writeHead(500).end(), true), "error"],
  "status 503": [(_, response) => (response.writeHead(503).end(), true), "error"],
  "status 429": [
    (_, response) => (response.writeHead(429, { "retry-after": "60" }).end(), true),
    "error",
  ],
  "status 401": [(_, response) => (response.writeHead(401).end(), true), "refused"],
  "status 403": [(_, response) => (response.writeHead(403).end(), true), "refused"],
  "a reset": [(request) => (request.socket.resetAndDestroy(), true), "error"],
  silence: [() => true, "timeout"],
  "a byte now and then": [
    (_, response) => {
      response.writeHead(200, { "content-length": 1000 });
      const timer = setInterval(() => response.write("x"), 50);
      response.on("close", () => clearInterval(timer));
      return true;
    },
    "timeout",
  ],
  "a web page": [(_, response) => (response.end("<html>"), true), "error"],
  "half an answer": [
    (_, response) => {
      response.writeHead(200, { "content-length": 1000 });
      response.write("x", () => response.destroy());
      return true;
    },
    "error",
  ],
};

describe.each(["flywheel", "plain"] as const)("trouble with a %s cache", (kind) => {
  test.each(Object.keys(TROUBLES).filter((name) => kind === "flywheel" || name !== "status 403"))(
    "that answers with %s is a miss, soon no question, and over when it is over",
    async (name) => {
      const [script, reason] = TROUBLES[name] ?? [() => false, "error"];
      const path = await createCachedPath("path");
      await using scene = await startScene([path], { kind, ...(reason === "timeout" && SHORT) });
      scene.cache.script = script;
      const miss = await scene.get(`${path.hash}.narinfo`);
      expect(miss.status).toBe(404);
      expect(scene.figures().misses?.[reason]).toBe(1);
      // Without it Nix would not ask this cache again.
      expect((await scene.get("nix-cache-info")).status).toBe(200);
      if (name !== "a web page") {
        await expect
          .poll(async () => {
            await scene.get(`${path.hash}.narinfo`);
            return scene.figures().misses?.["breaker-open"] ?? 0;
          })
          .toBeGreaterThan(0);
        const before = scene.cache.asked.length;
        for (const file of [`${path.hash}.narinfo`, path.url]) {
          expect((await scene.get(file)).status).toBe(404);
        }
        expect(scene.cache.asked.slice(before)).toEqual([]);
        expect(scene.statistics.snapshot().warnings).toHaveLength(1);
        expect(scene.statistics.snapshot().warnings[0]).not.toContain("token:");
      }

      scene.cache.script = () => false;
      scene.pass(60_000);
      await expect.poll(async () => (await scene.get(`${path.hash}.narinfo`)).status).toBe(200);
      expect(await bytesOf(await scene.get(path.url))).toEqual(path.file);
    },
  );

  test("that is not there at all is a miss at once", async () => {
    const path = await createCachedPath("path");
    const gone = await startScriptedCache([]);
    await gone[Symbol.asyncDispose]();
    await using scene = await startScene([path], { kind, port: gone.port });
    for (const _ of [1, 2, 3]) {
      expect((await scene.get(`${path.hash}.narinfo`)).status).toBe(404);
    }
    expect((await scene.get(path.url)).status).toBe(404);
    expect((await scene.get("nix-cache-info")).status).toBe(200);
    expect(scene.statistics.snapshot().breakers).toMatchObject([{ face: "nix", opened: 1 }]);
  });
});

test("a refused token is renewed once, and the request goes through with the new one", async () => {
  const path = await createCachedPath("path");
  let token = "old";
  const refused = vi.fn<Credentials["refused"]>(() => {
    token = "new";
    return Promise.resolve(true);
  });
  await using scene = await startScene([path], {
    kind: "attic",
    credentials: { token: () => token, refused },
  });
  scene.cache.script = (request, response) => {
    if (request.headers.authorization === "Bearer new") return false;
    response.writeHead(401).end();
    return true;
  };
  expect((await scene.get(`${path.hash}.narinfo`)).status).toBe(200);
  expect(new Set(refused.mock.calls.map(([used]) => used))).toEqual(new Set(["old"]));
});

test("what the cache does not have is asked again a moment later", async () => {
  const path = await createCachedPath("path");
  await using scene = await startScene([]);
  for (const _ of [1, 2]) expect((await scene.get(`${path.hash}.narinfo`)).status).toBe(404);
  expect(scene.cache.asked.filter(isClosure)).toHaveLength(1);
  scene.pass(11_000);
  expect((await scene.get(`${path.hash}.narinfo`)).status).toBe(404);
  expect(scene.cache.asked.filter(isClosure)).toHaveLength(2);
  expect(scene.figures().misses).toMatchObject({ absent: 3, error: 0 });
});

test("a NAR follows a redirect, and the token stays behind", async () => {
  const path = await createCachedPath("path");
  await using elsewhere = await startScriptedCache([path]);
  await using scene = await startScene([path]);
  scene.cache.script = (request, response) => {
    if (!isNar(request.url ?? "")) return false;
    response.writeHead(307, { location: `${elsewhere.url}/main/${path.url}` }).end();
    return true;
  };
  expect(await bytesOf(await scene.get(path.url))).toEqual(path.file);
  expect(elsewhere.tokens).toEqual([undefined]);
});

describe("a NAR", () => {
  const NOISE = 300_000;
  const largeOnly = { prefetchMaxBytes: 0 };

  test("is had in ranges, from the cache and from the spool", async () => {
    const path = await createCachedPath("path", [], { noise: 5000 });
    await using scene = await startScene([path]);
    const range = { headers: { range: "bytes=1000-" } };
    const direct = await scene.get(path.url, range);
    expect([direct.status, direct.headers.get("content-range")]).toEqual([
      206,
      `bytes 1000-${path.file.length - 1}/${path.file.length}`,
    ]);
    expect(await bytesOf(direct)).toEqual(path.file.subarray(1000));
    await scene.get(`${path.hash}.narinfo`);
    await expect.poll(() => scene.figures().prefetched).toBe(1);
    const spooled = await scene.get(path.url, range);
    expect([spooled.status, spooled.headers.get("content-range")]).toEqual([
      206,
      `bytes 1000-${path.file.length - 1}/${path.file.length}`,
    ]);
    expect(await bytesOf(spooled)).toEqual(path.file.subarray(1000));
  });

  test("that is asked for while it is read ahead is read once", async () => {
    const path = await createCachedPath("path", [], { noise: 2_000_000 });
    await using scene = await startScene([path], { tickMs: 20 });
    let goOn = (): void => {};
    scene.cache.script = async (request) => {
      if (!isNar(request.url ?? "")) return false;
      await new Promise<void>((resolve) => (goOn = resolve));
      return false;
    };
    await scene.get(`${path.hash}.narinfo`);
    await expect.poll(() => scene.cache.asked.some(isNar)).toBe(true);
    const answer = scene.get(path.url);
    goOn();
    expect(await bytesOf(await answer)).toEqual(path.file);
    expect(scene.cache.asked.filter(isNar)).toHaveLength(1);
  });

  test("of some size is not read ahead from a cache next door", async () => {
    const path = await createCachedPath("path", [], { noise: NOISE });
    await using scene = await startScene([path]);
    await scene.get(`${path.hash}.narinfo`);
    expect(await bytesOf(await scene.get(path.url))).toEqual(path.file);
    expect(scene.figures().prefetched).toBe(0);
  });

  test.each(["cut", "silent"] as const)(
    "whose transfer is %s in the middle goes on from there",
    async (how) => {
      const path = await createCachedPath("path", [], { noise: NOISE });
      await using scene = await startScene([path], largeOnly);
      let troubles = 3;
      scene.cache.script = (request, response) => {
        if (!isNar(request.url ?? "") || troubles === 0) return false;
        troubles -= 1;
        const start = Number(/=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
        response.writeHead(start === 0 ? 200 : 206, {
          "content-length": path.file.length - start,
          "accept-ranges": "bytes",
          ...(start > 0 && {
            "content-range": `bytes ${start}-${path.file.length - 1}/${path.file.length}`,
          }),
        });
        response.write(path.file.subarray(start, start + 90_000), () => {
          if (how === "cut") response.destroy();
        });
        return true;
      };
      const answer = await scene.get(path.url);
      expect(answer.status).toBe(200);
      expect(await bytesOf(answer)).toEqual(path.file);
      expect(scene.cache.asked.filter(isNar).length).toBe(4);
      expect(scene.figures().hits).toBe(1);
    },
  );

  test("that only trickles is cut in the end", async () => {
    const path = await createCachedPath("path", [], { noise: NOISE });
    await using scene = await startScene([path], largeOnly);
    scene.cache.script = (request, response) => {
      if (!isNar(request.url ?? "")) return false;
      const start = Number(/=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0);
      response.writeHead(start === 0 ? 200 : 206, {
        "accept-ranges": "bytes",
        ...(start > 0 && {
          "content-range": `bytes ${start}-${path.file.length - 1}/${path.file.length}`,
        }),
      });
      const timer = setInterval(() => response.write("x"), 100);
      response.on("close", () => clearInterval(timer));
      return true;
    };
    await expect(bytesOf(await scene.get(path.url))).rejects.toThrow(/terminated/);
    expect((await scene.get(path.url)).status).toBe(404);
  });

  test("whose transfer cannot go on is cut, so that Nix does not take it for whole", async () => {
    const path = await createCachedPath("path", [], { noise: NOISE });
    await using scene = await startScene([path], largeOnly);
    scene.cache.script = (request, response) => {
      if (!isNar(request.url ?? "")) return false;
      // Neither length nor ranges, as an atticd.
      response.write(path.file.subarray(0, 50_000), () => response.destroy());
      return true;
    };
    const answer = await scene.get(path.url);
    await expect(bytesOf(answer)).rejects.toThrow(/terminated/);
    expect(scene.figures().hits ?? 0).toBe(0);
  });

  test("that is shorter on the server than its narinfo says is not there", async () => {
    const path = await createCachedPath("path", [], { noise: NOISE });
    await using scene = await startScene([path], largeOnly);
    await scene.get(`${path.hash}.narinfo`);
    scene.cache.script = (request, response) => {
      if (!isNar(request.url ?? "")) return false;
      sendFile(request, response, path.file.subarray(0, -1000));
      return true;
    };
    expect((await scene.get(path.url)).status).toBe(404);
  });

  test.each([true, false])(
    "with wrong bytes is not served, nor promised again (file hash in the narinfo: %s)",
    async (hasFileHash) => {
      const path = await createCachedPath("path", [], { hasFileHash });
      const other = await createCachedPath("other", [], { hasFileHash });
      await using scene = await startScene([path]);
      scene.cache.script = (request, response) => {
        if (!isNar(request.url ?? "")) return false;
        sendFile(request, response, other.file);
        return true;
      };
      expect((await scene.get(`${path.hash}.narinfo`)).status).toBe(200);
      await expect.poll(() => scene.statistics.snapshot().warnings.length > 0).toBe(true);
      expect((await scene.get(path.url)).status).toBe(404);
      expect((await scene.get(`${path.hash}.narinfo`)).status).toBe(404);
      expect(scene.statistics.snapshot().warnings).toHaveLength(1);
    },
  );

  test("that turns out to be wrong while Nix waits for it is not asked for once more", async () => {
    const path = await createCachedPath("path");
    const other = await createCachedPath("other");
    await using scene = await startScene([path]);
    let goOn = (): void => {};
    scene.cache.script = async (request, response) => {
      if (!isNar(request.url ?? "")) return false;
      await new Promise<void>((resolve) => (goOn = resolve));
      sendFile(request, response, other.file);
      return true;
    };
    await scene.get(`${path.hash}.narinfo`);
    await expect.poll(() => scene.cache.asked.some(isNar)).toBe(true);
    const answer = scene.get(path.url);
    goOn();
    expect((await answer).status).toBe(404);
    expect(scene.cache.asked.filter(isNar)).toHaveLength(1);
  });

  test("answers HEAD with its size", async () => {
    const path = await createCachedPath("path");
    await using scene = await startScene([path]);
    const head = await scene.get(path.url, { method: "HEAD" });
    expect([head.status, head.headers.get("content-length")]).toEqual([
      200,
      String(path.file.length),
    ]);
    expect((await scene.get(`nar/${"0".repeat(64)}.nar.zst`, { method: "HEAD" })).status).toBe(404);
    expect((await scene.get(`${path.hash}.narinfo`, { method: "HEAD" })).status).toBe(200);
  });

  test("keeps no more of what Nix does not take than fits, and nothing after the end", async () => {
    const paths = await Promise.all(
      Array.from({ length: 20 }, (_, at) => createCachedPath(`p${at}`, [], { noise: 100_000 })),
    );
    const scene = await startScene(paths, { spoolBytes: 500_000 });
    await Promise.all(paths.map(({ hash }) => scene.get(`${hash}.narinfo`)));
    await expect.poll(() => scene.figures().prefetched).toBe(4);
    expect(scene.cache.asked.filter(isNar)).toHaveLength(4);
    for (const { url, file } of paths) expect(await bytesOf(await scene.get(url))).toEqual(file);
    expect(scene.figures().hits).toBe(20);
    await scene.face.close();
    expect(await readdir(scene.spoolDirectory)).toEqual([]);
    await scene[Symbol.asyncDispose]();
  });

  test("survives a server that dies and comes back while it is sent", async () => {
    const path = await createCachedPath("path", [], { noise: 3_000_000 });
    await using target = await startScriptedCache([path]);
    await using proxy = await startFaultProxy(
      () => target.port,
      (number) =>
        number === 1 ? { after: { bytes: 400_000, towards: "client", kind: "reset" } } : {},
    );
    await using scene = await startScene([], { ...largeOnly, port: proxy.port });
    await scene.get("nix-cache-info");
    expect(await bytesOf(await scene.get(path.url))).toEqual(path.file);
  });
});

describe("a view that is read besides the job's own", () => {
  const extraOf = ({ url }: ScriptedCache, view: string): NixUpstream => upstreamOf(url, view);

  test("is asked for what those before lack, for whole closures, and gives the NARs of these", async () => {
    const [top, middle, leaf] = await createClosure();
    const own = await createCachedPath("own", [], { noise: 300_000 });
    const last = await createCachedPath("last");
    await using second = await startScriptedCache([own, top, middle, leaf], "second");
    await using third = await startScriptedCache([last, leaf], "third");
    const extra = [extraOf(second, "second"), extraOf(third, "third")];
    await using scene = await startScene([own], { extra });
    for (const path of [own, top, middle, leaf, last]) {
      const narinfo = await scene.get(`${path.hash}.narinfo`);
      expect([narinfo.status, await narinfo.text()]).toEqual([200, path.narinfo]);
      expect(await bytesOf(await scene.get(path.url))).toEqual(path.file);
    }
    expect((await scene.get(`${"0".repeat(32)}.narinfo`)).status).toBe(404);
    expect(second.asked.filter(isClosure).length).toBeLessThanOrEqual(3);
    expect(second.asked.filter(isNar)).toHaveLength(3);
    expect(third.asked.filter(isNar)).toEqual([`GET /third/${last.url}`]);
    expect(scene.figures()).toMatchObject({
      misses: { absent: 1, error: 0 },
      views: { main: { hits: 1, bytes: own.file.length }, second: { hits: 3 }, third: { hits: 1 } },
    });
  });

  test("is asked for a file that nobody was told of, such as after the agent began anew", async () => {
    const path = await createCachedPath("path");
    await using second = await startScriptedCache([path], "second");
    await using scene = await startScene([], { extra: [extraOf(second, "second")] });
    expect(await bytesOf(await scene.get(path.url))).toEqual(path.file);
    expect((await scene.get(`nar/${"0".repeat(64)}.nar.zst`)).status).toBe(404);
    const head = await scene.get(path.url, { method: "HEAD" });
    expect(head.headers.get("content-length")).toBe(String(path.file.length));
  });

  test("takes the place of one before it whose bytes were wrong", async () => {
    const path = await createCachedPath("path");
    const other = await createCachedPath("other");
    await using second = await startScriptedCache([path], "second");
    await using scene = await startScene([path], { extra: [extraOf(second, "second")] });
    scene.cache.script = (request, response) => {
      if (!isNar(request.url ?? "")) return false;
      sendFile(request, response, other.file);
      return true;
    };
    await scene.get(`${path.hash}.narinfo`);
    await expect.poll(() => scene.statistics.snapshot().warnings.length > 0).toBe(true);
    expect((await scene.get(`${path.hash}.narinfo`)).status).toBe(200);
    expect(await bytesOf(await scene.get(path.url))).toEqual(path.file);
  });

  test("that takes the token no more keeps nobody from the others", async () => {
    const [first, ...rest] = await Promise.all(
      ["a", "b", "c", "d", "e", "f"].map((name) => createCachedPath(name)),
    );
    await using second = await startScriptedCache([], "second");
    second.script = (_, response) => response.writeHead(401).end() !== undefined;
    await using scene = await startScene(first === undefined ? [] : [first], {
      extra: [extraOf(second, "second")],
    });
    for (const { hash } of rest) expect((await scene.get(`${hash}.narinfo`)).status).toBe(404);
    expect((await scene.get(`${first?.hash}.narinfo`)).status).toBe(200);
    expect(scene.figures().misses).toMatchObject({ refused: 5, "breaker-open": 0 });
    expect(scene.statistics.snapshot()).toMatchObject({ breakers: [], warnings: [] });
  });

  test("is not waited for when the server is silent already", async () => {
    const path = await createCachedPath("path");
    await using second = await startScriptedCache([path], "second");
    await using scene = await startScene([], { ...SHORT, extra: [extraOf(second, "second")] });
    scene.cache.script = () => true;
    expect((await scene.get(`${path.hash}.narinfo`)).status).toBe(404);
    expect(second.asked).toEqual([]);
    expect(scene.figures().misses).toMatchObject({ timeout: 1 });
  });
});
