import { zstdDecompressSync } from "node:zlib";

import { silentLogger } from "@glorious/core";
import fc from "fast-check";
import { expect, test } from "vitest";

import { sweep } from "../src/housekeeping/sweeper.ts";
import { DAMAGES, type Damage, damageObject } from "./damage.ts";
import { compressNar, narInfoOf, openNixClient } from "./nix-client.ts";
import { createTestPath, type TestPath } from "./test-path.ts";
import { startTestServer, type TestServer } from "./test-server.ts";
import { closurePath, encode, postJson, pushAttic, putNar } from "./uploads.ts";

type Way = "attic" | "flywheel" | "copy";
type Reads = "read" | "list" | "delete";
type Step =
  | { readonly kind: "push"; readonly path: number; readonly way: Way }
  | { readonly kind: Reads; readonly path: number }
  | { readonly kind: "damage"; readonly path: number; readonly damage: Damage }
  | { readonly kind: "scrub" }
  | { readonly kind: "sweep" };

const PATHS = 4;
const path = fc.nat(PATHS - 1);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constant<"push">("push"),
    path,
    way: fc.constantFrom<Way[]>("attic", "flywheel", "copy"),
  }),
  fc.record({ kind: fc.constantFrom<Reads[]>("read", "read", "read", "list", "delete"), path }),
  fc.record({
    kind: fc.constant<"damage">("damage"),
    path,
    damage: fc.constantFrom<Damage[]>(...DAMAGES),
  }),
  fc.record({ kind: fc.constant<"scrub">("scrub") }),
  fc.record({ kind: fc.constant<"sweep">("sweep") }),
);

/** A server, and what several people do to a few paths at once. */
interface Scene {
  readonly server: TestServer;
  readonly viewId: number;
  readonly paths: readonly TestPath[];
  readonly user: string;
  readonly admin: string;
  sweeping: Promise<void>;
}

async function run(scene: Scene, next: Step): Promise<void> {
  if (next.kind === "scrub") return scrub(scene);
  if (next.kind === "sweep") return sweepNext(scene);
  const target = scene.paths[next.path] as TestPath;
  if (next.kind === "push") return push(scene, target, next.way);
  if (next.kind === "damage") return damageTarget(scene, target, next.damage);
  if (next.kind === "read") return void (await read(scene, target));
  const url =
    next.kind === "list"
      ? `/main/${target.storePathHash}.ls`
      : `/_flywheel/v1/views/main/paths/${target.storePathHash}`;
  const method = next.kind === "list" ? "GET" : "DELETE";
  const { status } = await scene.server.send(method, url, { token: scene.user });
  expect([200, 204, 404]).toContain(status);
}

/** Taken; or the sweep was faster, or the NAR was lost before its path came: then it is sent again. */
async function push(scene: Scene, target: TestPath, way: Way): Promise<void> {
  for (let attempt = 0; attempt < 50; attempt += 1) {
    const status = await pushOnce(scene, target, way);
    if (status === 200) return;
    expect([400, 404, 409, 503]).toContain(status);
  }
  throw new Error(`${target.storePath} could not be pushed`);
}

/** The first status that is no success, or 200. */
async function pushOnce({ server, user }: Scene, target: TestPath, way: Way): Promise<number> {
  if (way === "attic") return (await pushAttic(server, user, "main", target)).status;
  if (way === "flywheel") {
    const put = await putNar(server, user, "main", target, await encode(target));
    if (put.status !== 200) return put.status;
    const closure = { paths: [closurePath(target)], externalReferences: [] };
    return (await postJson(server, user, "/_flywheel/v1/views/main/closures", closure)).status;
  }
  const client = await openNixClient(server, "main");
  const file = compressNar(target.nar, "gzip");
  const put = await client.put(file.url, file.bytes);
  if (put.status !== 200) return put.status;
  return (await client.put(`${target.storePathHash}.narinfo`, narInfoOf(target, file))).status;
}

/** A miss or the right bytes, never others; whether it was these. */
async function read({ server, user: token }: Scene, target: TestPath): Promise<boolean> {
  const nar = await server.send("GET", `/main/nar/${target.storePathHash}.nar`, { token });
  expect([200, 404]).toContain(nar.status);
  if (nar.status !== 200) return false;
  expect(zstdDecompressSync(nar.body).equals(target.nar)).toBe(true);
  return true;
}

async function scrub({ server, admin: token }: Scene): Promise<void> {
  const url = "/_flywheel/v1/scrub?wait=30&bytesPerSecond=1000000000";
  const answer = await server.send("POST", url, { token });
  expect(answer.json()).toMatchObject({ state: "done", unanswered: 0 });
}

/** One at a time, as a server's own. */
function sweepNext(scene: Scene): Promise<void> {
  const { index, store } = scene.server;
  const parts = {
    index,
    store,
    logger: silentLogger,
    now: Date.now,
    objectGraceMs: 300,
    upstreamPathMaxAgeMs: 1,
  };
  scene.sweeping = scene.sweeping.then(async () => {
    await sweep(parts, new AbortController().signal);
  });
  return scene.sweeping;
}

async function damageTarget(
  { server, viewId }: Scene,
  target: TestPath,
  damage: Damage,
): Promise<void> {
  const found = await server.index.findPath([viewId], target.storePathHash);
  // Somebody may have been faster.
  if (found !== undefined) await damageObject(server, found.fileHash, damage).catch(() => {});
}

test("whatever is damaged while others push, read, delete, scrub and sweep: nothing wrong is served, and pushes heal it all", async () => {
  const paths = await Promise.all(
    Array.from({ length: PATHS }, (_, number) => createTestPath(`race-${number}`)),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(step, { minLength: 5, maxLength: 15 }), { minLength: 3, maxLength: 5 }),
      async (workers) => {
        await using server = await startTestServer({ scrubIntervalMs: "0s", narGraceMs: "0s" });
        const view = await server.createView("main");
        const user = await server.token({ main: ["pull", "push", "delete"] });
        const admin = await server.token({}, { isAdmin: true });
        const scene: Scene = {
          server,
          viewId: view.id,
          paths,
          user,
          admin,
          sweeping: Promise.resolve(),
        };

        await Promise.all(
          workers.map(async (steps) => {
            for (const next of steps) await run(scene, next);
          }),
        );

        await scrub(scene);
        for (const target of paths) await push(scene, target, "flywheel");
        for (const target of paths) expect(await read(scene, target)).toBe(true);
        await scrub(scene);
        for (const target of paths) expect(await read(scene, target)).toBe(true);
        expect(await server.index.checkConsistency()).toEqual([]);
        expect((await server.index.viewStats(view.id)).paths).toBe(PATHS);
      },
    ),
    { numRuns: 8 },
  );
});
