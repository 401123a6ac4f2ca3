import fc from "fast-check";
import { expect, test } from "vitest";

import { orderByLastUse, sortByReference } from "./collection-order.ts";
import { PathGraph } from "./path-graph.ts";
import { chooseDoomed, type CollectionLimits, NarLedger, sliceDoomed } from "./plan-collection.ts";

const NIX32 = "0123456789abcdfghijklmnpqrsvwxyz";
const pause = (): Promise<void> => Promise.resolve();

/** A path by its number; numbers far apart share no part of their hashes. */
function hashOf(number: number): string {
  return Array.from({ length: 32 }, (_, at) =>
    NIX32.charAt((number * (at + 7) + (number >> 5) * 11 + at * at) % 32),
  ).join("");
}

interface SamplePath {
  readonly references: readonly number[];
  readonly accessedAtMs: number;
  readonly nar: number;
}

interface SampleView extends CollectionLimits {
  readonly paths: readonly SamplePath[];
  readonly pins: readonly number[];
}

function narBytes(nar: number): number {
  return 10 + 3 * nar;
}

async function plan({ paths, pins, ...limits }: SampleView, sliceSize = 3): Promise<number[][]> {
  const graph = new PathGraph();
  for (const [number, { references, accessedAtMs, nar }] of paths.entries()) {
    graph.add({
      storePathHash: hashOf(number),
      accessedAtMs,
      fileSize: narBytes(nar),
      narHash: nar.toString(16).padStart(8, "0") + "0".repeat(56),
      references: references.map(hashOf),
    });
  }
  const ids = pins.map((number) => graph.idOf(hashOf(number)));
  const topology = await sortByReference(graph, pause);
  const order = await orderByLastUse(graph, topology, { pins: ids, pause });
  const numbers = new Map(paths.map((_, number) => [hashOf(number), number]));
  const doomed = await chooseDoomed(graph, order, { ...limits, pause });
  const slices = [...sliceDoomed(doomed, topology.component, sliceSize)];
  return slices.map((slice) =>
    Array.from(slice, (id) => numbers.get(graph.storePathHashOf(id)) ?? -1),
  );
}

/** What a path and all it refers to, directly or not, are. */
function closureOf(paths: readonly SamplePath[], from: number): Set<number> {
  const closure = new Set([from]);
  for (const number of closure) {
    for (const reference of paths[number]?.references ?? []) {
      if (reference < paths.length) closure.add(reference);
    }
  }
  return closure;
}

/** When anything that needs it was last used; a pin is used always. */
function lastUseOf({ paths, pins }: SampleView, number: number): number {
  const uses = paths.map(({ accessedAtMs }, user) =>
    closureOf(paths, user).has(number) ? (pins.includes(user) ? Infinity : accessedAtMs) : -1,
  );
  return Math.max(...uses);
}

function sizeOf({ paths }: SampleView, gone: ReadonlySet<number>): number {
  const nars = new Set(paths.filter((_, number) => !gone.has(number)).map(({ nar }) => nar));
  return [...nars].reduce((sum, nar) => sum + narBytes(nar), 0);
}

const view = fc
  .record({
    paths: fc.array(
      fc.record({
        // Also to itself, in circles, and to paths that the view does not have.
        references: fc.array(fc.nat(24), { maxLength: 4 }),
        accessedAtMs: fc.nat(9),
        nar: fc.nat(12),
      }),
      { maxLength: 22 },
    ),
    pins: fc.array(fc.nat(24), { maxLength: 2 }),
    expiresBeforeMs: fc.option(fc.nat(10), { nil: undefined }),
    maxSizeBytes: fc.option(fc.nat(300), { nil: undefined }),
    evictsBeforeMs: fc.integer({ min: 5, max: 10 }),
  })
  .map((sample): SampleView => sample);

test("what goes is exactly what is past its time, and then whole closures while the view is too large", async () => {
  await fc.assert(
    fc.asyncProperty(view, async (sample) => {
      const doomed = new Set((await plan(sample)).flat());
      const { paths, expiresBeforeMs = -1, maxSizeBytes = Infinity, evictsBeforeMs } = sample;
      const uses = paths.map((_, number) => lastUseOf(sample, number));
      const kept = paths.map((_, number) => number).filter((number) => !doomed.has(number));

      // Whatever stays has all it refers to.
      for (const number of kept) {
        for (const needed of closureOf(paths, number)) expect(doomed.has(needed)).toBe(false);
      }
      for (const number of kept) expect(uses[number]).toBeGreaterThanOrEqual(expiresBeforeMs);
      const evicted = [...doomed].filter((number) => (uses[number] ?? 0) >= expiresBeforeMs);
      for (const number of evicted) expect(uses[number]).toBeLessThan(evictsBeforeMs);
      // Nothing that was used longer ago than something evicted stays.
      const newest = Math.max(-1, ...evicted.map((number) => uses[number] ?? 0));
      for (const number of kept) expect(uses[number]).toBeGreaterThanOrEqual(newest);

      const sizeBytes = sizeOf(sample, doomed);
      if (sizeBytes > maxSizeBytes) {
        for (const number of kept) expect(uses[number]).toBeGreaterThanOrEqual(evictsBeforeMs);
      }
      // Not more than was asked for: without the last closure that went, it would be too large.
      const last = evicted.filter((number) => uses[number] === newest);
      if (last.length > 0) {
        const before = new Set([...doomed].filter((number) => !last.includes(number)));
        expect(sizeOf(sample, before)).toBeGreaterThan(maxSizeBytes);
      }
    }),
    { numRuns: 500 },
  );
});

test("slices hold each path once, referrers before references, and circles whole", async () => {
  await fc.assert(
    fc.asyncProperty(view, fc.integer({ min: 1, max: 5 }), async (sample, sliceSize) => {
      const slices = await plan(sample, sliceSize);
      const all = slices.flat();
      expect(new Set(all).size).toBe(all.length);
      const gone = new Set<number>();
      for (const [position, slice] of slices.entries()) {
        if (position < slices.length - 1) expect(slice.length).toBeGreaterThanOrEqual(sliceSize);
        for (const number of slice) gone.add(number);
        for (const number of slice) {
          const referrers = sample.paths.flatMap(({ references }, user) =>
            references.includes(number) ? [user] : [],
          );
          for (const user of referrers) expect(gone.has(user)).toBe(true);
        }
      }
    }),
    { numRuns: 500 },
  );
});

test("a chain of 100 000 paths is sorted, its end as young as its head", async () => {
  const length = 100_000;
  const graph = new PathGraph();
  const narHash = "0".repeat(64);
  const nameOf = (number: number): string =>
    Array.from({ length: 32 }, (_, at) => NIX32.charAt((number >> (5 * (at % 4))) & 31)).join("");
  for (let number = 0; number < length; number += 1) {
    const accessedAtMs = 1_700_000_000_000 - number;
    const references = [nameOf(number + 1)];
    graph.add({ storePathHash: nameOf(number), accessedAtMs, fileSize: 7, narHash, references });
  }
  const topology = await sortByReference(graph, pause);
  const { order, group, groupAccessedAtMs } = await orderByLastUse(graph, topology, {
    pins: [],
    pause,
  });

  expect(graph.storePathHashOf(order[0] ?? 0)).toBe(nameOf(0));
  expect(graph.storePathHashOf(order[length - 1] ?? 0)).toBe(nameOf(length - 1));
  expect(groupAccessedAtMs(group[graph.idOf(nameOf(length - 1))] ?? 0)).toBe(1_700_000_000_000);
  expect((await NarLedger.open(graph, order, pause)).sizeBytes).toBe(7);
});
