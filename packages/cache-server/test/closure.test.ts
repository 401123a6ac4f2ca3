import { zstdDecompressSync } from "node:zlib";

import { parseNarInfo } from "@glorious/nix-store";
import type { CachePermission } from "@glorious/trust";
import { expect, test } from "vitest";

import { NO_VIEW_POLICY } from "../src/trust/view-policy.ts";
import { createGraph, pushClosure } from "./closures.ts";
import { damageObject } from "./damage.ts";
import { createTestPath, type TestPath } from "./test-path.ts";
import { startTestServer, type TestAnswer, type TestServer } from "./test-server.ts";
import { postJson, pushAttic } from "./uploads.ts";

interface Closure {
  readonly narinfos: readonly { readonly storePathHash: string; readonly text: string }[];
  readonly missing: readonly string[];
  readonly rest: readonly string[];
}

const hashOf = (path: TestPath | undefined): string => path?.storePathHash ?? "";

function ask(
  server: TestServer,
  token: string | undefined,
  body: Readonly<Record<string, unknown>>,
  view = "main",
): Promise<TestAnswer> {
  return server.send("POST", `/_flywheel/v1/views/${view}/closure`, {
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    ...(token === undefined ? {} : { token }),
  });
}

async function closureOf(...args: Parameters<typeof ask>): Promise<Closure> {
  const answer = await ask(...args);
  expect(answer.status).toBe(200);
  return JSON.parse(answer.text) as Closure;
}

const hashesOf = ({ narinfos }: Closure): string[] => narinfos.map((each) => each.storePathHash);

/** A view with a closure: app needs left and right, both need base, and base itself. */
async function startWithClosure(): Promise<{
  readonly server: TestServer;
  readonly token: string;
  readonly paths: Readonly<Record<string, TestPath>>;
}> {
  const server = await startTestServer();
  await server.createView("main");
  const token = await server.token({ main: ["pull", "push"] });
  const paths = await createGraph({
    base: [],
    left: ["base"],
    right: ["base"],
    app: ["left", "right"],
  });
  await pushClosure(server, token, "main", Object.values(paths));
  return { server, token, paths };
}

test("a closure comes in one answer, breadth first, each narinfo as it is read alone", async () => {
  const { server, token, paths } = await startWithClosure();
  await using _ = server;
  const closure = await closureOf(server, token, { roots: [hashOf(paths["app"])] });

  const [app, left, right, base] = ["app", "left", "right", "base"].map((name) =>
    hashOf(paths[name]),
  );
  expect(hashesOf(closure)).toEqual([
    app,
    ...[left, right].toSorted((one, other) => (String(one) < String(other) ? -1 : 1)),
    base,
  ]);
  expect([closure.missing, closure.rest]).toEqual([[], []]);
  for (const { storePathHash, text } of closure.narinfos) {
    const alone = await server.send("GET", `/main/${storePathHash}.narinfo`, { token });
    expect(text).toBe(alone.text);
  }
});

test("what is asked on with the rest, and with what is known, comes once and ends", async () => {
  const { server, token, paths } = await startWithClosure();
  await using _ = server;
  const known: string[] = [];
  let roots: readonly string[] = [hashOf(paths["app"])];
  for (let page = 0; roots.length > 0; page += 1) {
    expect(page).toBeLessThan(4);
    const closure = await closureOf(server, token, { roots, known, limit: 1 });
    expect(closure.narinfos).toHaveLength(1);
    known.push(...hashesOf(closure));
    roots = closure.rest;
  }
  expect(known.toSorted()).toEqual(Object.values(paths).map(hashOf).toSorted());
});

test("what is known is neither answered nor looked behind", async () => {
  const { server, token, paths } = await startWithClosure();
  await using _ = server;
  const known = [hashOf(paths["left"]), hashOf(paths["right"])];
  const closure = await closureOf(server, token, { roots: [hashOf(paths["app"])], known });
  expect(hashesOf(closure)).toEqual([hashOf(paths["app"])]);
});

test("a path that is not there, or whose NAR is damaged, is missing, and its closure with it", async () => {
  const { server, token, paths } = await startWithClosure();
  await using _ = server;
  const { app, left, base } = paths as Record<"app" | "left" | "base", TestPath>;
  const narInfo = await server.send("GET", `/main/${hashOf(left)}.narinfo`, { token });
  const { fileHash, url } = parseNarInfo(narInfo.text);
  await damageObject(server, fileHash?.bytes.toString("hex") ?? "", "flipped");
  expect((await server.send("GET", `/main/${url}`, { token })).status).toBe(404);

  const absent = await createTestPath("absent");
  const closure = await closureOf(server, token, { roots: [hashOf(absent), hashOf(app)] });
  expect(closure.missing).toEqual([hashOf(absent), hashOf(left)]);
  expect(hashesOf(closure)).toEqual([hashOf(app), hashOf(paths["right"]), hashOf(base)]);
});

test("a closure falls through an overlay to its base and the shared views that the caller may read", async () => {
  await using server = await startTestServer(
    {},
    {
      viewPolicy: {
        ...NO_VIEW_POLICY,
        settingsOf: (name) => ({
          ...NO_VIEW_POLICY.settingsOf(name),
          reads: name === "main" ? ["common"] : [],
        }),
      },
    },
  );
  for (const name of ["main", "common", "main_pr-1"]) await server.createView(name);
  const admin = await server.token({ "*": ["pull", "push"] });
  const { shared, base, own } = (await createGraph({
    shared: [],
    base: ["shared"],
    own: ["base"],
  })) as Record<"shared" | "base" | "own", TestPath>;
  await pushAttic(server, admin, "common", shared);
  await pushAttic(server, admin, "main", base);
  const rights: Record<string, readonly CachePermission[]> = {
    "main_pr-1": ["pull", "push"],
    main: ["pull"],
  };
  const narrow = await server.token(rights);
  const wide = await server.token({ ...rights, common: ["pull"] });
  await pushAttic(server, narrow, "main_pr-1", own);

  const roots = [hashOf(own)];
  const all = await closureOf(server, wide, { roots }, "main_pr-1");
  expect(hashesOf(all)).toEqual([own, base, shared].map(hashOf));
  const some = await closureOf(server, narrow, { roots }, "main_pr-1");
  expect(hashesOf(some)).toEqual([own, base].map(hashOf));
  expect(some.missing).toEqual([hashOf(shared)]);
  // An overlay that nobody has written to reads as its base.
  const unwritten = await server.token({ "main_pr-2": ["pull"], main: ["pull"] });
  const through = await closureOf(server, unwritten, { roots: [hashOf(base)] }, "main_pr-2");
  expect(hashesOf(through)).toEqual([hashOf(base)]);
});

test("a private view's closures are for those who may pull it, a public one's for everybody", async () => {
  const { server, paths } = await startWithClosure();
  await using _ = server;
  const body = { roots: [hashOf(paths["app"])] };
  const other = await server.token({ other: ["pull"] });
  expect((await ask(server, undefined, body)).status).toBe(401);
  expect((await ask(server, other, body)).status).toBe(401);
  expect((await ask(server, other, body, "absent")).status).toBe(401);
  await server.index.updateView("main", { isPublic: true });
  expect((await ask(server, undefined, body)).status).toBe(200);
});

test("a request beyond the bounds or of another shape is refused", async () => {
  const { server, token } = await startWithClosure();
  await using _ = server;
  const hash = "0".repeat(32);
  for (const body of [
    { roots: [] },
    { roots: ["x"] },
    { roots: [hash], limit: 0 },
    { roots: [hash], limit: 5001 },
    { roots: Array.from({ length: 20_001 }, () => hash) },
    { roots: [hash], known: Array.from({ length: 50_001 }, () => hash) },
  ]) {
    expect((await ask(server, token, body)).status).toBe(400);
  }
});

test("paths read as a closure count as used, and as read by the token's holder", async () => {
  const { server, paths } = await startWithClosure();
  await using _ = server;
  const view = await server.index.findView("main");
  const before = await server.index.findPath([view?.id ?? 0], hashOf(paths["base"]));
  server.advance(3 * 3_600_000);
  const later = await server.token({ main: ["pull"] }, { jti: "reader" });
  await closureOf(server, later, { roots: [hashOf(paths["app"])] });
  // Uses and reads are written down by then.
  await server.stop();
  const [entry] = await server.index.findProvenance("path", hashOf(paths["base"]), 10);
  expect(entry?.readers.map(({ jti }) => jti)).toEqual(["reader"]);
  const after = await server.index.findPath([view?.id ?? 0], hashOf(paths["base"]));
  expect(after?.accessedAtMs).toBeGreaterThan(before?.accessedAtMs ?? 0);
});

test("who takes zstd gets the same answer in fewer bytes", async () => {
  const { server, token, paths } = await startWithClosure();
  await using _ = server;
  const body = { roots: [hashOf(paths["app"])] };
  const plain = await postJson(server, token, "/_flywheel/v1/views/main/closure", body);
  const packed = await server.send("POST", "/_flywheel/v1/views/main/closure", {
    headers: { "content-type": "application/json", "accept-encoding": "zstd" },
    body: JSON.stringify(body),
    token,
  });
  expect(packed.headers["content-encoding"]).toBe("zstd");
  expect(zstdDecompressSync(packed.body).toString()).toBe(plain.text);
  expect(packed.body.length).toBeLessThan(plain.body.length);
});
