import { isCacheError } from "@glorious/core";
import fc from "fast-check";
import { expect } from "vitest";

import type { CacheIndex, ObjectRecord } from "../../src/index/cache-index.ts";
import type { IndexModel } from "./index-model.ts";
import { sampleObject, sha256Of } from "./index-samples.ts";

export const VIEW_NAMES: readonly string[] = ["main", "side"];
export const UPSTREAM_NAMES: readonly string[] = ["near", "far"];
export const NARS: readonly string[] = ["alpha", "beta", "gamma"];
export const PATH_NAMES: readonly string[] = ["p0", "p1", "p2", "p3"];
export const ENCODINGS: readonly string[] = ["ours", "theirs"];
export const KEY_NAMES: readonly string[] = ["main", "k1", "k2"];
export const SIGNATURES: readonly string[] = ["a:1", "b:2", "c:3"];
export const OBJECTS: readonly ObjectRecord[] = [
  ...NARS.flatMap((nar) => ENCODINGS.map((encoding) => sampleObject(nar, encoding))),
  { ...sampleObject("alpha"), fileHash: sha256Of("xz of alpha"), compression: "xz" },
];

export type Command = fc.AsyncCommand<IndexModel, CacheIndex>;

/** One step, done to the model and to the index, whose answers must be equal. */
export function step(
  name: string,
  onModel: (model: IndexModel) => unknown,
  onIndex: (index: CacheIndex, model: IndexModel) => Promise<unknown>,
): Command {
  return {
    check: () => true,
    toString: () => name,
    async run(model, index) {
      // The index first: what the model does must not change the arguments that both get.
      const actual = await outcomeOf(() => onIndex(index, model));
      const expected = await outcomeOf(() => onModel(model));
      agree(actual, expected);
    },
  };
}

/** Expects two answers to be equal. */
export function agree(actual: unknown, expected: unknown): void {
  expect(actual).toEqual(expected);
}

/** What a call answers, or the code of what it throws. */
export async function outcomeOf(run: () => unknown): Promise<unknown> {
  try {
    return { value: await run() };
  } catch (error) {
    return { error: isCacheError(error) ? error.code : "Error" };
  }
}

/** What the model calls the hidden view of an upstream, and the index where it has to name it. */
export function hiddenViewName(upstream: string): string {
  return `upstream/${upstream}`;
}

/** A view that somebody made, or more seldom the hidden one of an upstream. */
export const anyViewName: fc.Arbitrary<string> = fc.constantFrom(
  ...VIEW_NAMES,
  ...VIEW_NAMES,
  ...UPSTREAM_NAMES.map(hiddenViewName),
);
export const viewName: fc.Arbitrary<string> = fc.constantFrom(...VIEW_NAMES);
export const object: fc.Arbitrary<ObjectRecord> = fc.constantFrom(...OBJECTS);
export const pathName: fc.Arbitrary<string> = fc.constantFrom(...PATH_NAMES);
export const lifeMs: fc.Arbitrary<number> = fc.integer({ min: 0, max: 50 });
