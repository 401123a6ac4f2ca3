import { silentLogger } from "@glorious/core";
import {
  narInfoFingerprint,
  parseNarInfo,
  parsePublicKey,
  verifySignature,
} from "@glorious/nix-store";
import { expect, test } from "vitest";

import { createSigningKey } from "../src/commit/new-signing-key.ts";
import { createPathCommitter, type PathToCommit } from "../src/commit/path-committer.ts";
import { createResigner, type Resigner } from "../src/housekeeping/resigner.ts";
import type { CacheIndex, ViewRecord } from "../src/index/cache-index.ts";
import { openSqliteIndex } from "../src/index/sqlite-index.ts";
import { sampleObject, samplePath, sampleView } from "./index/index-samples.ts";
import { hold, NOW } from "./index/index-setup.ts";

const newKey = () => createSigningKey("main", undefined, NOW);

async function openView(): Promise<{ readonly index: CacheIndex; readonly view: ViewRecord }> {
  const index = await openSqliteIndex({ file: ":memory:" });
  const view = await index.createView(sampleView("main"), newKey());
  return { index, view };
}

function toCommit(seed: string): PathToCommit {
  const { narSize, fileHash, fileSize } = sampleObject(seed);
  const { requiredReferences, ...path } = samplePath(seed);
  return { manifest: { ...path, narSize }, object: { fileHash, fileSize }, requiredReferences };
}

async function commit(
  index: CacheIndex,
  view: ViewRecord,
  seeds: readonly string[],
  onOutdated: (view: ViewRecord) => void = () => {},
): Promise<void> {
  await hold(index, view.id, ...seeds);
  const committer = createPathCommitter({
    index,
    logger: silentLogger,
    now: () => NOW,
    onOutdated,
  });
  const result = await committer.commit(view, seeds.map(toCommit), {
    createdBy: undefined,
    presence: [],
  });
  expect(result.kind).toBe("committed");
}

/** Every path has good signatures of exactly the keys that the view has now. */
async function expectSigned(index: CacheIndex, view: ViewRecord): Promise<void> {
  const keys = (await index.listSigningKeys(view.id)).map(({ publicKey }) =>
    parsePublicKey(publicKey),
  );
  expect(await index.countOutdatedPaths(view.id)).toBe(0);
  for (const { narInfo } of await index.listPaths(view.id, { limit: 10_000 })) {
    const info = parseNarInfo(narInfo);
    const fingerprint = narInfoFingerprint(info);
    expect(info.signatures).toHaveLength(keys.length);
    for (const key of keys) {
      const isGood = info.signatures.some((text) => verifySignature([key], fingerprint, text));
      expect(isGood).toBe(true);
    }
  }
}

function create(index: CacheIndex): Resigner & AsyncDisposable {
  const resigner = createResigner({ index, logger: silentLogger, intervalMs: 3_600_000 });
  return Object.assign(resigner, { [Symbol.asyncDispose]: () => resigner.stop() });
}

const SEEDS = Array.from({ length: 450 }, (_, number) => `p${number}`);

test("a start takes up what was left undone, and nothing that is done", async () => {
  const { index, view } = await openView();
  await using _ = index;
  await commit(index, view, SEEDS);
  await index.addSigningKey(view.id, newKey());
  {
    // It stops after the step under way, as a process does that is told to end.
    await using first = create(index);
    first.start();
    await expect.poll(() => index.countOutdatedPaths(view.id), { interval: 1 }).toBeLessThan(450);
  }
  const left = await index.countOutdatedPaths(view.id);
  expect(left).toBeLessThan(450);

  await using second = create(index);
  second.start();
  await expect.poll(() => index.countOutdatedPaths(view.id), { interval: 5 }).toBe(0);
  await expectSigned(index, view);
});

test("keys that change again in the middle of it are all that sign in the end", async () => {
  const { index, view } = await openView();
  await using _ = index;
  await commit(index, view, SEEDS);
  await using resigner = create(index);
  await index.addSigningKey(view.id, newKey());
  resigner.kick(view);
  await expect.poll(() => index.countOutdatedPaths(view.id), { interval: 1 }).toBeLessThan(450);

  await index.replaceSigningKeys(view.id, newKey());
  await resigner.resign(view);

  await expectSigned(index, view);
  expect(await index.listSigningKeys(view.id)).toHaveLength(1);
});

test("a push that read its keys just before they changed is signed again", async () => {
  const { index, view } = await openView();
  await using _ = index;
  await using resigner = create(index);
  const added = newKey();
  let isChanged = false;
  const racing = intercept(index, "listSigningKeys", async (keys) => {
    if (!isChanged) {
      isChanged = true;
      await index.addSigningKey(view.id, added);
      await resigner.resign(view);
    }
    return keys;
  });

  const told: string[] = [];
  await commit(racing, view, ["raced"], (outdated) => {
    told.push(outdated.name);
    resigner.kick(outdated);
  });

  expect(told).toEqual(["main"]);
  await expect.poll(() => index.countOutdatedPaths(view.id), { interval: 1 }).toBe(0);
  await expectSigned(index, view);
});

test("a path committed anew while it is being signed keeps what was committed", async () => {
  const { index, view } = await openView();
  await using _ = index;
  await commit(index, view, ["a"]);
  await index.addSigningKey(view.id, newKey());
  let isRaced = false;
  const racing = intercept(index, "listOutdatedPaths", async (paths) => {
    if (!isRaced) {
      isRaced = true;
      const path = toCommit("a");
      const manifest = { ...path.manifest, deriver: `${"0".repeat(32)}-another.drv` };
      const options = { index, logger: silentLogger, now: () => NOW, onOutdated: () => {} };
      await createPathCommitter(options).commit(view, [{ ...path, manifest }], {
        createdBy: undefined,
        presence: [],
      });
    }
    return paths;
  });

  await using resigner = create(racing);
  await resigner.resign(view);

  const [path] = await index.listPaths(view.id, { limit: 1 });
  expect(path?.narInfo).toContain("-another.drv");
  await expectSigned(index, view);
});

/** The index, with something happening between one of its answers and whoever asked. */
function intercept<Method extends "listSigningKeys" | "listOutdatedPaths">(
  index: CacheIndex,
  method: Method,
  then: (answer: Awaited<ReturnType<CacheIndex[Method]>>) => Promise<unknown>,
): CacheIndex {
  return new Proxy(index, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      return async (...parameters: readonly unknown[]) => {
        const answer: never = (await value.apply(target, parameters)) as never;
        return name === method ? then(answer) : answer;
      };
    },
  });
}
