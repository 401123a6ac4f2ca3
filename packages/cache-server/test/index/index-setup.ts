import { expect } from "vitest";

import type { CacheIndex, ViewRecord } from "../../src/index/cache-index.ts";
import { sampleKey, sampleObject, samplePath, sampleView } from "./index-samples.ts";

/** Opens an empty index, which disposing removes. */
export type OpenIndex = () => Promise<CacheIndex>;

/** The time at which contract tests begin. */
export const NOW = 1_700_000_000_000;

export async function addView(index: CacheIndex, name = "main"): Promise<ViewRecord> {
  return index.createView(sampleView(name), sampleKey(`${name}-1`));
}

/** Uploads the NARs of these sample paths into the view; they expire a second after {@link NOW}. */
export async function hold(
  index: CacheIndex,
  viewId: number,
  ...seeds: readonly string[]
): Promise<void> {
  await Promise.all(
    seeds.map(async (seed) => {
      const object = sampleObject(seed);
      expect(await index.reserveObject(object, NOW)).toBe("reserved");
      const { narHash, fileHash } = object;
      await index.holdNar({ viewId, narHash, fileHash, expiresAtMs: NOW + 1000 });
    }),
  );
}

/** Uploads these sample paths and commits them. */
export async function push(
  index: CacheIndex,
  viewId: number,
  ...seeds: readonly string[]
): Promise<void> {
  await hold(index, viewId, ...seeds);
  const paths = seeds.map((seed) => samplePath(seed));
  expect(await index.commitPaths(viewId, paths)).toMatchObject({ kind: "committed" });
}
