import { randomBytes } from "node:crypto";

import { parseNarInfo } from "@glorious/nix-store";
import { expect, test, vi } from "vitest";

import { createTestPath, type TestPath } from "../test-path.ts";
import type { TestAnswer } from "../test-server.ts";
import { type Conduct, type FakeUpstream, sendFile, startFakeUpstream } from "./fake-upstream.ts";
import { attach, type ReadThrough, startReadThrough } from "./read-through.ts";

/** Larger than what is held back until it is known to be right. */
const SIZE = 600_000;
const HALF = SIZE / 2;

interface Promised extends AsyncDisposable {
  readonly world: ReadThrough;
  readonly path: TestPath;
  /** Where the upstream has the NAR. */
  readonly upstreamUrl: string;
  /** Asks for the NAR by the narinfo that was given before anything went wrong, or for its rest. */
  readonly read: (start?: number) => Promise<TestAnswer>;
}

/** A server that has given the narinfo of a path, of which only its upstream has the NAR, as a raw file. */
async function promise(options: { readonly withoutFileHash?: boolean } = {}): Promise<Promised> {
  const world = await startReadThrough({ upstreamDeadlineMs: "1s" });
  const path = await createTestPath("large", randomBytes(SIZE));
  const compression = options.withoutFileHash === true ? "zstd" : "none";
  const { url: upstreamUrl } = await world.upstream.add(path, { compression, ...options });
  const text = await world.narInfo(path.storePathHash);
  if (text === undefined) throw new Error("There is no narinfo");
  const { url } = parseNarInfo(text);
  return {
    world,
    path,
    upstreamUrl: `/${upstreamUrl}`,
    read: (start) =>
      world.server.send("GET", `/main/${url}`, {
        headers: start === undefined ? {} : { range: `bytes=${start}-` },
      }),
    [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
  };
}

/** Another upstream of the view with the same file. */
async function addMirror({ world, path }: Promised): Promise<FakeUpstream> {
  const mirror = await startFakeUpstream();
  await mirror.add(path, { compression: "none" });
  await attach(world.server, mirror, "main", { name: "mirror", priority: 50 });
  return mirror;
}

/** Half of the file, and then the connection is cut; no rest either. */
function cutOff(nar: Buffer): Conduct {
  return (response) => {
    response.writeHead(200, { "content-length": nar.length });
    response.write(nar.subarray(0, HALF), () => setTimeout(() => response.destroy(), 20));
  };
}

const answer =
  (status: number): Conduct =>
  (response) =>
    void response.writeHead(status).end();

test.each<[string, Conduct]>([
  ["is gone", (response) => void response.destroy()],
  ["answers 500", answer(500)],
  ["answers 429", answer(429)],
  ["has lost it", answer(404)],
  ["never answers", () => {}],
])(
  "a NAR comes from another upstream with the same file when its own %s",
  async (_title, conduct) => {
    await using promised = await promise();
    await using mirror = await addMirror(promised);
    const { world, path, upstreamUrl, read } = promised;
    world.upstream.conduct(upstreamUrl, conduct);
    expect(await read()).toMatchObject({ status: 200, body: path.nar });
    expect(mirror.count(/^\/nar\//)).toBe(1);
  },
);

test("a NAR that breaks off goes on from another upstream, and its client does not notice", async () => {
  await using promised = await promise();
  await using mirror = await addMirror(promised);
  const { world, path, upstreamUrl, read } = promised;
  world.upstream.conduct(upstreamUrl, cutOff(path.nar));
  expect(await read()).toMatchObject({ status: 200, body: path.nar });
  expect(mirror.count(/^\/nar\//)).toBe(1);
  await vi.waitFor(() => expect(world.reasons()).toEqual(["cut"]));
});

test("bytes that may be wrong are not completed by right ones", async () => {
  await using promised = await promise();
  await using mirror = await addMirror(promised);
  const { world, path, upstreamUrl, read } = promised;
  const wrong = Buffer.from(path.nar);
  wrong.fill(0, HALF);
  world.upstream.files.set(upstreamUrl, wrong);
  await expect(read()).rejects.toThrow(/aborted|socket hang up|ECONNRESET/);
  expect(mirror.count(/^\/nar\//)).toBe(0);
});

test("a connection that breaks at once is tried once more", async () => {
  await using promised = await promise();
  const { world, path, upstreamUrl, read } = promised;
  let tries = 0;
  world.upstream.conduct(upstreamUrl, (response, headers) => {
    tries += 1;
    if (tries === 1) response.destroy();
    else sendFile(response, headers, path.nar);
  });
  expect(await read()).toMatchObject({ status: 200, body: path.nar });
});

test.each<[string, (nar: Buffer) => Conduct]>([
  ["is cut again", cutOff],
  ["is refused", () => answer(503)],
  ["is gone", () => answer(404)],
])("the rest of a NAR that broke off is a miss when it %s", async (_title, conduct) => {
  await using promised = await promise();
  const { world, path, upstreamUrl, read } = promised;
  world.upstream.conduct(upstreamUrl, cutOff(path.nar));
  await expect(read()).rejects.toThrow(/aborted|socket hang up|ECONNRESET/);
  world.upstream.conduct(upstreamUrl, conduct(path.nar));
  expect((await read(HALF)).status).toBe(404);
});

test("the rest of a NAR that broke off is there when its upstream is", async () => {
  await using promised = await promise();
  const { world, path, upstreamUrl, read } = promised;
  world.upstream.conduct(upstreamUrl, cutOff(path.nar));
  await expect(read()).rejects.toThrow(/aborted|socket hang up|ECONNRESET/);
  world.upstream.conduct(upstreamUrl, (response, headers) => sendFile(response, headers, path.nar));
  expect(await read(HALF)).toMatchObject({ status: 206, body: path.nar.subarray(HALF) });
});

test("what no hash names is never gone on with, be it still upstream or stored here", async () => {
  await using promised = await promise({ withoutFileHash: true });
  const { world, path, read } = promised;
  expect((await read(1000)).status).toBe(404);
  const whole = await read();
  expect(whole).toMatchObject({ status: 200, headers: { "accept-ranges": "bytes" } });
  const { server, record } = world;
  await vi.waitFor(async () => {
    expect(await server.index.findPath([record.viewId], path.storePathHash)).toBeDefined();
  });
  expect((await read(1000)).status).toBe(404);
  expect((await read()).status).toBe(200);
});
