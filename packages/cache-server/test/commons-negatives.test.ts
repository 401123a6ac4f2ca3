import { randomBytes } from "node:crypto";

import { parseNarInfo, sha256HexToNix32 } from "@glorious/nix-store";
import { expect, test } from "vitest";

import type { CacheIndex } from "../src/index/cache-index.ts";
import { NO_VIEW_POLICY } from "../src/trust/view-policy.ts";
import { storePathHashOf } from "./index/index-samples.ts";
import { createTestPath, type TestPath } from "./test-path.ts";
import { startTestServer, type TestAnswer, type TestServer } from "./test-server.ts";
import { pushAttic } from "./uploads.ts";

const READER = "initech+main";

/** One question that the server put to its index, and what it was told. */
interface IndexCall {
  readonly question: string;
  readonly answer: string;
}

interface World extends AsyncDisposable {
  readonly server: TestServer;
  /** Reads its own view with the commons behind it, and may push there. */
  readonly token: string;
  /** Of another tenant, which contributes, but agrees on it with nobody. */
  readonly private_: TestPath;
  readonly privateFileHash: string;
  readonly calls: IndexCall[];
}

/** Passes everything on and writes it down. */
function recordCalls(calls: IndexCall[]): (index: CacheIndex) => CacheIndex {
  return (index) =>
    new Proxy(index, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== "function") return value;
        return (...args: unknown[]): unknown => {
          const result: unknown = Reflect.apply(value, target, args);
          void Promise.resolve(result).then((answer) => {
            const question = `${String(name)} ${JSON.stringify(args)}`;
            calls.push({ question, answer: JSON.stringify(answer) ?? "" });
          });
          return result;
        };
      },
    });
}

async function startWorld(): Promise<World> {
  const calls: IndexCall[] = [];
  const contributors = ["acme", "globex"].map((tenant) => {
    return { view: `${tenant}+main`, tenant, voice: tenant, isContentAddressed: true };
  });
  await using opened = new AsyncDisposableStack();
  const server = opened.use(
    await startTestServer(
      {},
      {
        wrapIndex: recordCalls(calls),
        timings: { commonsIntervalMs: 600_000 },
        viewPolicy: {
          ...NO_VIEW_POLICY,
          commons: { view: "commons", tenants: 2, contributors },
          settingsOf: (name) => ({
            ...NO_VIEW_POLICY.settingsOf(name),
            reads: name === READER ? ["commons"] : [],
          }),
        },
      },
    ),
  );
  for (const view of ["commons", READER, "acme+main", "globex+main"]) await server.createView(view);
  const owner = await server.token({ "acme+main": ["pull", "push"] });
  const private_ = await createTestPath("private");
  await pushAttic(server, owner, "acme+main", private_);
  const narInfo = await server.send("GET", `/acme+main/${private_.storePathHash}.narinfo`, {
    token: owner,
  });
  const privateFileHash = parseNarInfo(narInfo.text).fileHash?.bytes.toString("hex") ?? "";
  const token = await server.token({ [READER]: ["pull", "push"], commons: ["pull"] });
  const owned = opened.move();
  return {
    ...{ server, token, private_, privateFileHash, calls },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** What is asked for: of the other tenant, or of nobody. */
interface Wanted {
  readonly storePathHash: string;
  readonly narHash: string;
  readonly fileHash: string;
}

type Ask = (world: World, wanted: Wanted) => Promise<TestAnswer>;

const get =
  (method: "GET" | "HEAD", file: (wanted: Wanted) => string): Ask =>
  ({ server, token }, wanted) =>
    server.send(method, `/${READER}/${file(wanted)}`, { token });
const post =
  (path: string, body: (wanted: Wanted) => unknown): Ask =>
  ({ server, token }, wanted) =>
    server.send("POST", path, {
      token,
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body(wanted)),
    });

const QUESTIONS: Readonly<Record<string, Ask>> = {
  "its narinfo": get("GET", ({ storePathHash }) => `${storePathHash}.narinfo`),
  "the head of its narinfo": get("HEAD", ({ storePathHash }) => `${storePathHash}.narinfo`),
  "its listing": get("GET", ({ storePathHash }) => `${storePathHash}.ls`),
  "its NAR by its file": get("GET", ({ fileHash }) => `nar/${sha256HexToNix32(fileHash)}.nar.zst`),
  "the head of its NAR": get("HEAD", ({ fileHash }) => `nar/${sha256HexToNix32(fileHash)}.nar.zst`),
  "its NAR by its path": get("GET", ({ storePathHash }) => `nar/${storePathHash}.nar`),
  "whether a push may leave it out, as Attic asks": post(
    "/_api/v1/get-missing-paths",
    ({ storePathHash }) => ({ cache: READER, store_path_hashes: [storePathHash] }),
  ),
  "whether a push may leave it out": post(
    `/_flywheel/v1/views/${READER}/missing`,
    ({ storePathHash, narHash }) => ({ paths: [{ storePathHash, narHash }] }),
  ),
  "its closure": post(`/_flywheel/v1/views/${READER}/closure`, ({ storePathHash }) => ({
    roots: [storePathHash],
  })),
  "why it is not in the commons": ({ server, token }, { storePathHash }) =>
    server.send("GET", `/_flywheel/v1/commons/paths/${storePathHash}`, { token }),
};

/** An answer and all that it took, with what was asked for called by one name. */
async function observe(world: World, ask: Ask, wanted: Wanted): Promise<unknown> {
  world.calls.length = 0;
  const { status, headers, text } = await ask(world, wanted);
  // A tag is a hash of the body, which has the name that was asked for in it.
  const { date: _date, etag: _etag, "x-request-id": id, ...others } = headers;
  const calls = [...world.calls];
  let said = JSON.stringify({ status, headers: others, text, calls });
  for (const [name, value] of Object.entries(wanted) as [string, string][]) {
    said = said.replaceAll(value, name);
    if (value.length === 64) said = said.replaceAll(sha256HexToNix32(value), name);
  }
  return said.replaceAll(String(id), "requestId");
}

/**
 * No test of times: what is the same work on the same answers takes the same time. `pnpm bench negatives` has the times.
 */
test.each(Object.keys(QUESTIONS))(
  "asked for %s, the server does and says the same of another tenant's path as of one that is nowhere",
  async (question) => {
    await using world = await startWorld();
    const ask = QUESTIONS[question];
    if (ask === undefined) throw new Error("There is no such question");
    const theirs: Wanted = {
      storePathHash: world.private_.storePathHash,
      narHash: world.private_.narHash,
      fileHash: world.privateFileHash,
    };
    const nobodys = (): Wanted => ({
      storePathHash: storePathHashOf(crypto.randomUUID()),
      narHash: randomBytes(32).toString("hex"),
      fileHash: randomBytes(32).toString("hex"),
    });
    // The first time it is found out who asks.
    await ask(world, nobodys());
    const absent = await observe(world, ask, nobodys());
    expect(absent).toMatch(/"calls":\[\{/);
    expect(await observe(world, ask, theirs)).toEqual(absent);
    expect(await observe(world, ask, nobodys())).toEqual(absent);
  },
);
