import fc from "fast-check";
import { expect } from "vitest";

import type { CacheIndex } from "../../src/index/cache-index.ts";
import {
  agree,
  anyViewName,
  type Command,
  lifeMs,
  NARS,
  object,
  OBJECTS,
  pathName,
  step,
  viewName,
} from "./command-step.ts";
import type { IndexModel } from "./index-model.ts";
import { sampleObject, sha256Of, storePathHashOf } from "./index-samples.ts";

const PIN_NAMES = ["release", "staging"];
const UPLOAD_IDS = ["u0", "u1", "u2"];
const PART_BYTES = [8, 16];

const pinName = fc.constantFrom(...PIN_NAMES);
const uploadId = fc.constantFrom(...UPLOAD_IDS);

const touchPaths = fc
  .array(fc.record({ view: anyViewName, name: pathName, atMs: fc.nat(9) }), { maxLength: 4 })
  .map((touches) =>
    step(
      `touchPaths ${JSON.stringify(touches)}`,
      (model) => {
        for (const { view, name, atMs } of touches) {
          model.touchPath(model.idOf(view), storePathHashOf(name), atMs);
        }
      },
      (index, model) =>
        index.touchPaths(
          touches.map(({ view, name, atMs }) => {
            return { viewId: model.idOf(view), storePathHash: storePathHashOf(name), atMs };
          }),
        ),
    ),
  );

const touchNars = fc
  .array(fc.record({ view: anyViewName, read: object, atMs: fc.nat(9) }), { maxLength: 3 })
  .map((touches) =>
    step(
      `touchNars ${touches.map(({ view, read, atMs }) => `${view} ${read.fileHash.slice(0, 6)} ${atMs}`).join(", ")}`,
      (model) => {
        for (const { view, read, atMs } of touches) {
          model.touchNar(model.idOf(view), read.fileHash, atMs);
        }
      },
      (index, model) =>
        index.touchNars(
          touches.map(({ view, read, atMs }) => {
            return { viewId: model.idOf(view), fileHash: read.fileHash, atMs };
          }),
        ),
    ),
  );

const putPin = fc
  .record({ view: viewName, name: pinName, path: pathName, createdBy: fc.option(pinName) })
  .map(({ view, name, path, createdBy }) => {
    const storePathHash = storePathHashOf(path);
    const storePath = `/nix/store/${storePathHash}-${path}`;
    const by = createdBy ?? undefined;
    const pin = { name, storePathHash, storePath, createdAtMs: 5, createdBy: by };
    return step(
      `putPin ${view} ${name} ${path}`,
      (model) => model.putPin(model.idOf(view), pin),
      (index, model) => index.putPin(model.idOf(view), pin),
    );
  });

const deletePin = fc.record({ view: viewName, name: pinName }).map(({ view, name }) =>
  step(
    `deletePin ${view} ${name}`,
    (model) => model.deletePin(model.idOf(view), name),
    (index, model) => index.deletePin(model.idOf(view), name),
  ),
);

/** Candidates mostly as a mark would have them. */
const collectPaths = fc
  .record({
    view: anyViewName,
    names: fc.array(pathName, { minLength: 1, maxLength: 6 }),
    wrong: fc.option(fc.record({ at: fc.nat(5), byMs: fc.constantFrom(-1, 1) })),
    life: lifeMs,
  })
  .map(({ view, names, wrong, life }) => {
    const candidates = (
      model: IndexModel,
    ): { readonly storePathHash: string; readonly accessedAtMs: number }[] =>
      names.map((name, at) => {
        const storePathHash = storePathHashOf(name);
        const node = model
          .listGraph(model.idOf(view))
          .find((known) => known.storePathHash === storePathHash);
        const wrongByMs = wrong?.at === at ? wrong.byMs : 0;
        return { storePathHash, accessedAtMs: (node?.accessedAtMs ?? 0) + wrongByMs };
      });
    return step(
      `collectPaths ${view} ${names.join(" ")}, wrong ${JSON.stringify(wrong)}`,
      (model) => model.collectPaths(model.idOf(view), candidates(model), model.nowMs + life),
      (index, model) => index.collectPaths(model.idOf(view), candidates(model), model.nowMs + life),
    );
  });

const markVerified = fc
  .record({ objects: fc.subarray([...OBJECTS], { maxLength: 3 }), atMs: fc.nat(9) })
  .map(({ objects, atMs }) => {
    const fileHashes = objects.map(({ fileHash }) => fileHash);
    return step(
      `markVerified ${fileHashes.length} at ${atMs}`,
      (model) => {
        for (const fileHash of fileHashes) model.markVerified(fileHash, atMs);
      },
      (index) => index.markVerified(fileHashes, atMs),
    );
  });

const quarantineObject = fc
  .record({ bad: object, atMs: fc.nat(9), reason: fc.constantFrom("a bit flipped", "it is gone") })
  .map(({ bad: { fileHash }, ...finding }) =>
    step(
      `quarantineObject ${fileHash.slice(0, 6)}`,
      (model) => model.quarantineObject(fileHash, finding).sort(),
      async (index, model) => {
        const affected = await index.quarantineObject(fileHash, finding);
        for (const { view, viewId } of affected) agree(viewId, model.idOf(view));
        return affected.map(({ viewId, storePathHash }) => `${viewId} ${storePathHash}`).sort();
      },
    ),
  );

const restoreObject = object.map(({ fileHash }) =>
  step(
    `restoreObject ${fileHash.slice(0, 6)}`,
    (model) => model.restoreObject(fileHash),
    (index) => index.restoreObject(fileHash),
  ),
);

const createUpload = fc
  .record({
    id: uploadId,
    view: viewName,
    nar: fc.constantFrom(...NARS),
    partBytes: fc.constantFrom(...PART_BYTES),
    createdAtMs: fc.nat(3),
    life: lifeMs,
  })
  .map(({ view, nar, life, ...facts }) => {
    const { narHash, narSize } = sampleObject(nar);
    const upload = (
      model: IndexModel,
    ): typeof facts & { viewId: number; narHash: string; narSize: number; expiresAtMs: number } => {
      return {
        ...facts,
        viewId: model.idOf(view),
        narHash,
        narSize,
        expiresAtMs: model.nowMs + life,
      };
    };
    return step(
      `createUpload ${facts.id} ${view} ${nar} ${facts.partBytes} ${life}`,
      (model) => model.createUpload(upload(model)),
      (index, model) => index.createUpload(upload(model)),
    );
  });

const addUploadPart = fc
  .record({ id: uploadId, number: fc.nat(2), sizeBytes: fc.nat(1), content: fc.nat(1) })
  .map(({ id, content, ...facts }) => {
    const part = { ...facts, sha256: sha256Of(`part ${content}`) };
    return step(
      `addUploadPart ${id} ${JSON.stringify(part)}`,
      (model) => model.uploads.addPart(id, part),
      (index) => index.addUploadPart(id, part),
    );
  });

const extendUpload = fc.record({ id: uploadId, life: lifeMs }).map(({ id, life }) =>
  step(
    `extendUpload ${id} ${life}`,
    (model) => model.uploads.extend(id, model.nowMs + life),
    (index, model) => index.extendUpload(id, model.nowMs + life),
  ),
);

const deleteUpload = uploadId.map((id) =>
  step(
    `deleteUpload ${id}`,
    (model) => model.uploads.delete(id),
    (index) => index.deleteUpload(id),
  ),
);

/** What retention, scrubbing and uploads in parts do, the useful more often. */
export const housekeepingCommands: readonly fc.Arbitrary<Command>[] = [
  touchPaths,
  touchNars,
  putPin,
  putPin,
  deletePin,
  collectPaths,
  collectPaths,
  collectPaths,
  markVerified,
  quarantineObject,
  quarantineObject,
  restoreObject,
  createUpload,
  createUpload,
  addUploadPart,
  addUploadPart,
  extendUpload,
  deleteUpload,
];

/** Asks the index for all that these steps can change. */
export async function inspectHousekeeping(
  model: IndexModel,
  index: CacheIndex,
  viewIds: readonly number[],
): Promise<void> {
  for (const viewId of viewIds) {
    expect(await index.listPins(viewId)).toEqual(model.listPins(viewId));
    const nodes = model.listGraph(viewId);
    expect(await index.listGraph(viewId, { limit: 100 })).toEqual(nodes);
    const [first] = nodes;
    if (first !== undefined) {
      const after = first.storePathHash;
      expect(await index.listGraph(viewId, { after, limit: 1 })).toEqual(nodes.slice(1, 2));
    }
    await inspectUploads(model, index, viewId);
  }
  const objects = model.listObjects();
  expect(await index.listObjects({ limit: 100 })).toEqual(objects);
  const [first] = objects;
  if (first !== undefined) {
    const page = { after: first.fileHash, limit: 1 };
    expect(await index.listObjects(page)).toEqual(objects.slice(1, 2));
  }
  for (const known of model.listKnownObjects()) {
    expect(await index.findObjectState(known.fileHash)).toEqual(known);
  }
  const quarantined = await index.listQuarantined({ limit: 100 });
  expect(new Set(quarantined)).toEqual(new Set(model.listQuarantined()));
  expect(await index.countQuarantined()).toBe(quarantined.length);
  const times = quarantined.map(({ atMs }) => atMs);
  expect(times).toEqual(times.toSorted((a, b) => a - b));
  expect(await index.checkConsistency()).toEqual([]);
}

async function inspectUploads(model: IndexModel, index: CacheIndex, viewId: number): Promise<void> {
  const { nowMs } = model;
  for (const id of UPLOAD_IDS) {
    expect(await index.findUpload(viewId, id)).toEqual(model.uploads.find(viewId, id));
    expect(await index.listUploadParts(id)).toEqual(model.uploads.listParts(id));
  }
  for (const nar of NARS) {
    const { narHash } = sampleObject(nar);
    for (const partBytes of PART_BYTES) {
      const found = await index.findUploadOfNar(viewId, { narHash, partBytes, nowMs });
      expect(found).toEqual(model.uploads.findOfNar(viewId, narHash, partBytes, nowMs));
    }
  }
  const expired = await index.listExpiredUploads(nowMs, 100);
  expect(new Set(expired)).toEqual(new Set(model.uploads.listExpired(nowMs)));
}
