/**
 * How the SQLite index does with very many paths. Run it with
 *
 *     node --conditions=source packages/cache-server/bench/index-million.ts [paths] [directory]
 *
 * `paths` is 1 000 000 unless given. The database is made in `directory`, a temporary one unless given, and is kept
 * and used again only when that is given. Every figure is printed as it is measured.
 */
import { mkdir, mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type { CacheIndex } from "../src/index/cache-index.ts";
import { openSqliteIndex } from "../src/index/sqlite-index.ts";
import {
  CREATED_AT_MS,
  DAY_MS,
  fill,
  format,
  hashOf,
  makeView,
  measure,
  objectOf,
  pathOf,
  pick,
  report,
} from "./million-paths.ts";

const COUNT = Number(process.argv[2] ?? 1_000_000);
async function measureLookUps(
  index: CacheIndex,
  viewId: number,
  count: number,
  name: string,
): Promise<void> {
  const hashes = Array.from({ length: 100_000 }, (_, at) => hashOf(pick("ask", at, count)));
  const objects = Array.from({ length: 20_000 }, (_, at) => objectOf(pick("ask", at, count)));
  const absent = Array.from({ length: 50_000 }, (_, at) => hashOf(at + 0.25));
  if (count > 0) {
    await measure(`${name}: findPath, there`, hashes.length, (round) =>
      index.findPath([viewId], hashes[round] ?? ""),
    );
    await measure(`${name}: findHolding`, objects.length, (round) =>
      index.findHolding(viewId, objects[round]?.narHash ?? ""),
    );
    await measure(`${name}: findObject`, objects.length, (round) =>
      index.findObject([viewId], objects[round]?.fileHash ?? ""),
    );
  }
  await measure(`${name}: findPath, absent`, absent.length, (round) =>
    index.findPath([viewId], absent[round] ?? ""),
  );
  const asked = [...hashes.slice(0, 2500), ...absent.slice(0, 2500)];
  await measure(`${name}: findMissingPaths of 5000, half there`, 20, () =>
    index.findMissingPaths(viewId, asked),
  );
}

async function measureAll(index: CacheIndex, viewId: number): Promise<void> {
  await measureLookUps(index, viewId, COUNT, "large");

  let after: string | undefined;
  let leaves: { readonly storePathHash: string; readonly accessedAtMs: number }[] = [];
  const referred = new Set<string>();
  const walk = performance.now();
  await measure("listGraph, a page of 1000", Math.ceil(COUNT / 1000), async () => {
    const page = await index.listGraph(viewId, { limit: 1000, ...(after && { after }) });
    after = page.at(-1)?.storePathHash;
    for (const { storePathHash, accessedAtMs, references } of page) {
      leaves.push({ storePathHash, accessedAtMs });
      for (const hash of references) if (hash !== storePathHash) referred.add(hash);
    }
  });
  report("listGraph, all of it", format(performance.now() - walk));
  leaves = leaves.filter(({ storePathHash }) => !referred.has(storePathHash));
  report("paths that nothing refers to", String(leaves.length));

  after = undefined;
  const objects = performance.now();
  await measure("listObjects, a page of 1000", Math.ceil(COUNT / 1000), async () => {
    after = (await index.listObjects({ limit: 1000, ...(after && { after }) })).at(-1)?.fileHash;
  });
  report("listObjects, all of them", format(performance.now() - objects));

  const touched = Array.from({ length: 100_000 }, (_, at) => pick("touch", at, COUNT));
  await measure("touchPaths, 10 000 anywhere", 10, (round) =>
    index.touchPaths(
      touched.slice(round * 10_000, (round + 1) * 10_000).map((at) => ({
        viewId,
        storePathHash: hashOf(at),
        atMs: CREATED_AT_MS + DAY_MS + round,
      })),
    ),
  );
  const closure = Array.from({ length: 1000 }, (_, at) => pathOf(pick("again", at, COUNT)));
  await measure("commitPaths, 1000 that are there", 10, () => index.commitPaths(viewId, closure));
  const present = COUNT * 10;
  await fill(index, viewId, { from: present, to: present + 1, isWhole: false });
  await measure("reserve, hold and commit one new path", 50, (round) =>
    fill(index, viewId, {
      from: present + 2 * round + 1,
      to: present + 2 * round + 2,
      isWhole: false,
    }),
  );
  await measure("reserve, hold and commit 1000 new paths", 5, (round) =>
    fill(index, viewId, {
      from: present + 5000 + 1000 * round,
      to: present + 6000 + 1000 * round,
      isWhole: false,
    }),
  );

  const sample = leaves.filter((_, at) => at % 7 === 0).slice(0, 20_000);
  let deleted = 0;
  await measure("collectPaths, 1000 leaves", 10, async (round) => {
    const slice = sample.slice(round * 1000, (round + 1) * 1000);
    deleted += (await index.collectPaths(viewId, slice, CREATED_AT_MS)).deleted.length;
  });
  report("of these, deleted (the others were touched)", String(deleted));
  const popular = Array.from({ length: 1000 }, (_, at) => ({
    storePathHash: hashOf(at),
    accessedAtMs: CREATED_AT_MS + DAY_MS,
  }));
  await measure("collectPaths, 1000 that many need", 5, () =>
    index.collectPaths(viewId, popular, CREATED_AT_MS),
  );
  await measure("expire, 1000 holdings", 5, () => index.expire(CREATED_AT_MS, 1000));
  await measure("claim and remove 1000 objects", 5, async () =>
    index.removeClaimedObjects(await index.claimUnreferencedObjects(CREATED_AT_MS + 1, 1000)),
  );

  await measure("viewStats", 1000, () => index.viewStats(viewId));
  const bad = objectOf(pick("bad", 1, COUNT)).fileHash;
  await measure("quarantineObject and restoreObject", 20, async (round) => {
    await index.quarantineObject(bad, { atMs: round, reason: "bench" });
    await index.restoreObject(bad);
  });
  const name = `key-${Date.now()}`;
  await index.addSigningKey(viewId, {
    name,
    secretKey: "s",
    publicKey: "p",
    createdAtMs: CREATED_AT_MS,
  });
  await measure("countOutdatedPaths, all of them", 5, () => index.countOutdatedPaths(viewId));
  await measure("listOutdatedPaths, 100", 20, () => index.listOutdatedPaths(viewId, 100));
  await measure("replaceNarInfos, 100", 20, async () => {
    const paths = await index.listOutdatedPaths(viewId, 100);
    const keyGeneration = await index.signingKeyGeneration(viewId);
    const changes = paths.map(({ storePathHash, narInfo }) => ({
      storePathHash,
      replaces: narInfo,
      narInfo: `${narInfo}Sig: ${"x".repeat(100)}\n`,
      keyGeneration,
    }));
    await index.replaceNarInfos(viewId, changes);
  });
}

async function measureOpening(file: string): Promise<void> {
  await measure("open the index", 5, async () => {
    await (await openSqliteIndex({ file }))[Symbol.asyncDispose]();
  });
}

const given = process.argv[3];
const directory = given ?? (await mkdtemp(join(tmpdir(), "index-million-")));
await mkdir(directory, { recursive: true });
try {
  await using small = await openSqliteIndex({ file: join(directory, `small-${process.pid}`) });
  const smallView = await makeView(small);
  await measureLookUps(small, smallView, 0, "empty");
  await fill(small, smallView, { from: 0, to: 1000 });
  await measureLookUps(small, smallView, 1000, "1000 paths");

  const file = join(directory, "index.sqlite");
  {
    await using index = await openSqliteIndex({ file });
    const view = await index.findView("main");
    if (view === undefined) {
      const begin = performance.now();
      await fill(index, await makeView(index), { from: 0, to: COUNT });
      report(`fill with ${COUNT} paths`, format(performance.now() - begin));
    }
  }
  const { size } = await stat(file);
  report("file", `${(size / 2 ** 20).toFixed(0)} MiB, ${(size / COUNT).toFixed(0)} bytes a path`);
  await measureOpening(file);
  await using index = await openSqliteIndex({ file });
  const view = await index.findView("main");
  await measureAll(index, view?.id ?? 0);
  const begin = performance.now();
  const problems = await index.checkConsistency();
  report("checkConsistency", `${format(performance.now() - begin)}, ${problems.length} problems`);
  for (const problem of problems) process.stdout.write(`  ${problem}\n`);
} finally {
  if (given === undefined) await rm(directory, { recursive: true, force: true });
}
