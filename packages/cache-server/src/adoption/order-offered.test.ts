import fc from "fast-check";
import { expect, test } from "vitest";

import { orderOffered, type OverlayPath } from "./order-offered.ts";

const path = (storePathHash: string, ...references: string[]): OverlayPath => ({
  storePathHash,
  references,
});

const order = (overlay: OverlayPath[], offered: string[], base: string[] = []): string[] =>
  orderOffered(overlay, new Set(offered), (hash) => base.includes(hash)).map(
    ({ storePathHash }) => storePathHash,
  );

test("a path comes behind those it refers to, whatever their order", () => {
  const overlay = [path("app", "lib", "app", "glibc"), path("lib", "dep", "glibc"), path("dep")];
  expect(order(overlay, ["app", "lib", "dep"])).toEqual(["dep", "lib", "app"]);
  expect(order(overlay.toReversed(), ["app", "lib", "dep"])).toEqual(["dep", "lib", "app"]);
});

test("a path that nobody offered is left out, and so is what refers to it, unless the base has it", () => {
  const overlay = [path("app", "lib"), path("lib", "dep"), path("dep"), path("tool")];
  expect(order(overlay, ["app", "lib", "tool"])).toEqual(["tool"]);
  expect(order(overlay, ["app", "lib", "tool"], ["dep"])).toEqual(["tool", "lib", "app"]);
  expect(order(overlay, ["app", "lib", "dep", "tool"], ["lib", "app"])).toEqual(["tool", "dep"]);
});

test("what refers to itself around a corner is left out", () => {
  expect(order([path("a", "b"), path("b", "a"), path("c")], ["a", "b", "c"])).toEqual(["c"]);
});

test("a chain of references may be as long as it likes", () => {
  const overlay = Array.from({ length: 50_000 }, (_, at) => path(`${at}`, `${at + 1}`));
  const ordered = order(
    overlay,
    overlay.map(({ storePathHash }) => storePathHash),
  );
  expect(ordered).toHaveLength(50_000);
  expect(ordered[0]).toBe("49999");
});

const names = ["a", "b", "c", "d", "e", "f"];
const samples = fc.property(
  fc.array(fc.tuple(fc.constantFrom(...names), fc.subarray(names)), { maxLength: 8 }),
  fc.subarray(names),
  fc.subarray(names),
  checkOrder,
);
test("whatever is taken over has all its references there before it", () => {
  expect(() => fc.assert(samples)).not.toThrow();
});

function checkOrder(paths: [string, string[]][], offered: string[], base: string[]): void {
  const overlay = [...new Map(paths)].map(([hash, references]) => path(hash, ...references));
  const known = new Set(overlay.map(({ storePathHash }) => storePathHash));
  const there = new Set(base);
  for (const hash of order(overlay, offered, base)) {
    expect(offered).toContain(hash);
    expect(there.has(hash)).toBe(false);
    const own = overlay.find(({ storePathHash }) => storePathHash === hash);
    for (const reference of own?.references ?? []) {
      if (reference !== hash && known.has(reference)) expect(there.has(reference)).toBe(true);
    }
    there.add(hash);
  }
}
