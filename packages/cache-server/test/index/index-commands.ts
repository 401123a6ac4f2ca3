import fc from "fast-check";
import { expect } from "vitest";

import type { CacheIndex, FoundNarInfo, PathRecord } from "../../src/index/cache-index.ts";
import {
  agree,
  anyViewName,
  type Command,
  ENCODINGS,
  KEY_NAMES,
  lifeMs,
  NARS,
  object,
  OBJECTS,
  outcomeOf,
  PATH_NAMES,
  pathName,
  SIGNATURES,
  step,
  VIEW_NAMES,
  viewName,
} from "./command-step.ts";
import { housekeepingCommands, inspectHousekeeping } from "./housekeeping-commands.ts";
import type { IndexModel } from "./index-model.ts";
import {
  sampleKey,
  sampleObject,
  samplePath,
  sampleView,
  storePathHashOf,
} from "./index-samples.ts";
import { inspectUpstreams, upstreamCommands } from "./upstream-commands.ts";

/** Makes the view, unless there is one already. */
function makeView(name: string): Command {
  return {
    check: () => true,
    toString: () => `createView ${name}`,
    async run(model, index) {
      const created = await outcomeOf(() => index.createView(sampleView(name), sampleKey(name)));
      if (model.views.has(name)) {
        agree(created, { error: "CONFLICT" });
        return;
      }
      const id = (await index.findView(name))?.id;
      agree(created, { value: { ...sampleView(name), id } });
      agree(model.knewView(id ?? -1), false);
      model.addView(name, id ?? -1, name);
    },
  };
}

const createView = viewName.map(makeView);

const deleteView = viewName.map((name) =>
  step(
    `deleteView ${name}`,
    (model) => model.deleteView(name),
    (index) => index.deleteView(name),
  ),
);

const purgeDeletedViews = fc.integer({ min: 1, max: 3 }).map((limit) =>
  step(
    `purgeDeletedViews by ${limit}`,
    (model) => model.purgeDeletedViews(),
    async (index) => {
      for (;;) {
        const removed = await index.purgeDeletedViews(limit);
        agree(removed <= limit + 1, true);
        if (removed === 0) return;
      }
    },
  ),
);

const keyName = fc.constantFrom(...KEY_NAMES);

const replaceSigningKeys = fc.record({ view: viewName, key: keyName }).map(({ view, key }) =>
  step(
    `replaceSigningKeys ${view} ${key}`,
    (model) => model.replaceSigningKeys(model.idOf(view), key),
    (index, model) => index.replaceSigningKeys(model.idOf(view), sampleKey(key)),
  ),
);

const addSigningKey = fc.record({ view: viewName, key: keyName }).map(({ view, key }) =>
  step(
    `addSigningKey ${view} ${key}`,
    (model) => model.addSigningKey(model.idOf(view), key),
    (index, model) => index.addSigningKey(model.idOf(view), sampleKey(key)),
  ),
);

const removeSigningKey = fc.record({ view: viewName, key: keyName }).map(({ view, key }) =>
  step(
    `removeSigningKey ${view} ${key}`,
    (model) => model.removeSigningKey(model.idOf(view), key),
    (index, model) => index.removeSigningKey(model.idOf(view), key),
  ),
);

const addCounts = fc
  .record({
    view: anyViewName,
    uploads: fc.nat(3),
    uploadedNarBytes: fc.nat(9),
    conflicts: fc.nat(2),
  })
  .map(({ view, ...counts }) =>
    step(
      `addCounts ${view}`,
      (model) => model.addCounts(model.idOf(view), counts),
      (index, model) => index.addCounts(model.idOf(view), counts),
    ),
  );

const reserveObject = object.map((reserved) =>
  step(
    `reserveObject ${reserved.fileHash.slice(0, 6)}`,
    (model) => model.reserveObject(reserved, model.nowMs),
    (index, model) => index.reserveObject(reserved, model.nowMs),
  ),
);

/** Mostly what a server does: reserve, then hold. */
const uploadNar = fc
  .record({
    view: anyViewName,
    held: object.filter(({ compression }) => compression === "zstd"),
    reserves: fc.oneof({ weight: 9, arbitrary: fc.constant(true) }, fc.constant(false)),
    replaceObject: fc.boolean(),
    life: lifeMs,
  })
  .map(({ view, held: { narHash, ...held }, reserves, replaceObject, life }) =>
    step(
      `uploadNar ${view} ${held.fileHash.slice(0, 6)} ${life}${replaceObject ? " replace" : ""}`,
      (model) => {
        const { nowMs } = model;
        if (reserves) model.reserveObject({ narHash, ...held }, nowMs);
        const expiresAtMs = nowMs + life;
        const { fileHash } = held;
        const viewId = model.idOf(view);
        return model.holdNar({ viewId, narHash, fileHash, expiresAtMs, replaceObject });
      },
      async (index, model) => {
        const { nowMs } = model;
        if (reserves) await index.reserveObject({ narHash, ...held }, nowMs);
        const expiresAtMs = nowMs + life;
        const { fileHash } = held;
        const viewId = model.idOf(view);
        return index.holdNar({ viewId, narHash, fileHash, expiresAtMs, replaceObject });
      },
    ),
  );

const uploadFile = fc
  .record({ view: viewName, uploaded: object, life: lifeMs })
  .map(({ view, uploaded, life }) => {
    const { fileSize: _, ...facts } = uploaded;
    return step(
      `uploadFile ${view} ${uploaded.fileHash.slice(0, 6)} ${life}`,
      (model) => {
        const { nowMs } = model;
        model.reserveObject(uploaded, nowMs);
        const viewId = model.idOf(view);
        model.addUploadedFile({ ...facts, viewId, expiresAtMs: nowMs + life });
      },
      async (index, model) => {
        const { nowMs } = model;
        await index.reserveObject(uploaded, nowMs);
        const viewId = model.idOf(view);
        await index.addUploadedFile({ ...facts, viewId, expiresAtMs: nowMs + life });
      },
    );
  });

const newPath = fc
  .record({
    name: pathName,
    nar: fc.constantFrom(...NARS),
    encoding: fc.constantFrom(...ENCODINGS),
    requires: fc.subarray([...PATH_NAMES], { maxLength: 2 }),
    refersTo: fc.subarray([...PATH_NAMES], { maxLength: 3 }),
    signatures: fc.subarray([...SIGNATURES]),
    deriver: fc.option(fc.constantFrom("x.drv", "y.drv"), { nil: undefined }),
    narInfo: fc.constantFrom("first text", "second text"),
    keyGeneration: fc.nat(2),
    createdAtMs: fc.nat(5),
  })
  .map(({ name, nar, encoding, requires, refersTo, ...facts }) =>
    samplePath(name, {
      ...facts,
      narHash: sampleObject(nar).narHash,
      fileHash: sampleObject(nar, encoding).fileHash,
      references: refersTo.map((other) => `${storePathHashOf(other)}-${other}`),
      requiredReferences: requires.map(storePathHashOf),
    }),
  );

const commitPaths = fc
  .record({ view: anyViewName, paths: fc.array(newPath, { minLength: 1, maxLength: 4 }) })
  .map(({ view, paths }) =>
    step(
      `commitPaths ${view} ${JSON.stringify(paths)}`,
      (model) => model.commitPaths(model.idOf(view), paths),
      (index, model) => index.commitPaths(model.idOf(view), paths),
    ),
  );

/** A commit that has all it needs, which a random one seldom does. */
const pushPaths = fc
  .record({
    view: anyViewName,
    paths: fc.array(newPath, { minLength: 1, maxLength: 3 }),
    nar: fc.constantFrom(...NARS),
  })
  .map(({ view, paths, nar }): Command => ({
    check: () => true,
    toString: () => `pushPaths ${view} ${nar} ${JSON.stringify(paths)}`,
    async run(model, index) {
      const { narHash, fileHash } = sampleObject(nar);
      const viewId = model.idOf(view);
      const hold = { viewId, narHash, fileHash, expiresAtMs: model.nowMs + 10 };
      const reserved = await index.reserveObject(sampleObject(nar), model.nowMs);
      agree(reserved, model.reserveObject(sampleObject(nar), model.nowMs));
      const held = await outcomeOf(() => index.holdNar(hold));
      agree(held, await outcomeOf(() => model.holdNar(hold)));
      const holding = model.findHolding(viewId, narHash);
      if (holding === undefined) return;
      const complete = paths.map((path) => ({
        ...path,
        narHash,
        fileHash: holding.fileHash,
        requiredReferences: [],
      }));
      const committed = await index.commitPaths(viewId, complete);
      agree(committed, model.commitPaths(viewId, complete));
    },
  }));

const replaceNarInfos = fc
  .record({
    view: viewName,
    names: fc.subarray([...PATH_NAMES]),
    replaces: fc.constantFrom("first text", "second text"),
    keyGeneration: fc.nat(3),
  })
  .map(({ view, names, ...rest }) => {
    const changes = names.map((name) => ({
      storePathHash: storePathHashOf(name),
      narInfo: "new keys",
      ...rest,
    }));
    return step(
      `replaceNarInfos ${view} ${names.join(" ")} ${JSON.stringify(rest)}`,
      (model) => model.replaceNarInfos(model.idOf(view), changes),
      (index, model) => index.replaceNarInfos(model.idOf(view), changes),
    );
  });

const deletePath = fc
  .record({ view: anyViewName, name: pathName, life: lifeMs })
  .map(({ view, name, life }) =>
    step(
      `deletePath ${view} ${name}`,
      (model) => model.deletePath(model.idOf(view), storePathHashOf(name), model.nowMs + life),
      (index, model) =>
        index.deletePath(model.idOf(view), storePathHashOf(name), model.nowMs + life),
    ),
  );

const expire = fc.nat(30).map((passedMs) =>
  step(
    `expire after ${passedMs} ms`,
    (model) => {
      model.nowMs += passedMs;
      return model.expire(model.nowMs);
    },
    (index, model) => index.expire(model.nowMs + passedMs, 1000),
  ),
);

const claim = fc.nat(30).map((graceMs) =>
  step(
    `claimUnreferencedObjects older than ${graceMs} ms`,
    (model) => model.claimUnreferencedObjects(model.nowMs - graceMs).sort(),
    async (index, model) => {
      const claimed = await index.claimUnreferencedObjects(model.nowMs - graceMs, 1000);
      return claimed.sort();
    },
  ),
);

const removeClaimed = fc.subarray([...OBJECTS]).map((objects) => {
  const fileHashes = objects.map(({ fileHash }) => fileHash);
  return step(
    `removeClaimedObjects ${fileHashes.length}`,
    (model) => model.removeClaimedObjects(fileHashes),
    (index) => index.removeClaimedObjects(fileHashes),
  );
});

/** Makes every view, so that what follows finds them. */
export const begin: readonly Command[] = VIEW_NAMES.map(makeView);

/** Asks the index for all there is. */
export const inspect: Command = {
  check: () => true,
  toString: () => "inspect",
  async run(model, index) {
    const hidden = [...model.upstreams.upstreams.values()].map(({ viewId }) => viewId);
    const ids = [...model.views.values(), ...hidden, 1_000_000];
    for (const chain of [...ids.map((id) => [id]), ids, ids.toReversed()]) {
      for (const name of PATH_NAMES) {
        const hash = storePathHashOf(name);
        expect(await index.findPath(chain, hash)).toEqual(model.findPath(chain, hash));
      }
      for (const { fileHash } of OBJECTS) {
        const found = await index.findObject(chain, fileHash);
        expect(found).toEqual(model.findObject(chain, fileHash));
      }
    }
    for (const id of ids) await inspectView(model, index, id);
    await inspectHousekeeping(model, index, ids);
    await inspectUpstreams(model, index, ids);
  },
};

function narInfoOf(path: PathRecord | undefined): [string, FoundNarInfo][] {
  if (path === undefined) return [];
  const { viewId, storePathHash, references, narInfo, accessedAtMs } = path;
  return [[storePathHash, { viewId, storePathHash, references, narInfo, accessedAtMs }]];
}

async function inspectView(model: IndexModel, index: CacheIndex, id: number): Promise<void> {
  const stats = await outcomeOf(() => index.viewStats(id));
  expect(stats).toEqual(await outcomeOf(() => model.viewStats(id)));
  expect(await index.listPaths(id, { limit: 100 })).toEqual(model.listPaths(id));
  const keys = await index.listSigningKeys(id);
  expect(keys.map(({ name }) => name)).toEqual(model.keyNames(id));
  expect(await index.signingKeyGeneration(id)).toBe(model.signingKeyGeneration(id));
  const outdated = await index.listOutdatedPaths(id, 100);
  expect(new Set(outdated)).toEqual(new Set(model.listOutdatedPaths(id)));
  expect(await index.countOutdatedPaths(id)).toBe(outdated.length);
  const hashes = PATH_NAMES.map(storePathHashOf);
  expect(await index.findMissingPaths(id, hashes)).toEqual(
    hashes.filter((hash) => model.findPath([id], hash) === undefined),
  );
  const found = await index.findNarInfos([id], hashes);
  expect(new Map(found.map((path) => [path.storePathHash, path]))).toEqual(
    new Map(hashes.flatMap((hash) => narInfoOf(model.findPath([id], hash)))),
  );
  const narHashes = NARS.map((nar) => sampleObject(nar).narHash);
  expect(await index.findMissingNars(id, narHashes)).toEqual(
    narHashes.filter((narHash) => model.findHolding(id, narHash) === undefined),
  );
  for (const narHash of narHashes) {
    expect(await index.findHolding(id, narHash)).toEqual(model.findHolding(id, narHash));
  }
  for (const { fileHash, compression } of OBJECTS) {
    const file = await index.findUploadedFile(id, fileHash, compression);
    expect(file).toEqual(model.findUploadedFile(id, fileHash, compression));
    expect(await index.findUploadedFile(id, fileHash, "gzip")).toBeUndefined();
  }
}

/** Sequences of steps, the useful ones more often. */
export const indexCommands: fc.Arbitrary<Iterable<Command>> = fc.commands(
  [
    createView,
    deleteView,
    purgeDeletedViews,
    replaceSigningKeys,
    addSigningKey,
    removeSigningKey,
    addCounts,
    reserveObject,
    uploadNar,
    uploadNar,
    uploadFile,
    commitPaths,
    commitPaths,
    pushPaths,
    pushPaths,
    pushPaths,
    replaceNarInfos,
    deletePath,
    deletePath,
    expire,
    claim,
    removeClaimed,
    ...housekeepingCommands,
    ...upstreamCommands,
    fc.constant(inspect),
  ],
  { size: "max", maxCommands: 80 },
);
