import fc from "fast-check";
import { expect, test } from "vitest";

import { formatNixCacheInfo, parseNixCacheInfo } from "./index.ts";

test("any nix-cache-info survives its text", () => {
  const info = fc.record({
    storeDir: fc.constantFrom("/nix/store", "/gnu/store", "/home/me/my store"),
    wantMassQuery: fc.boolean(),
    priority: fc.option(fc.integer({ min: -100, max: 100_000 }), { nil: undefined }),
  });
  fc.assert(
    fc.property(info, (value) => {
      expect(parseNixCacheInfo(formatNixCacheInfo(value))).toEqual(value);
    }),
  );
});

test("it is written as caches write it", () => {
  const info = { storeDir: "/nix/store", wantMassQuery: true, priority: 40 };
  expect(formatNixCacheInfo(info)).toBe("StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n");
});

test("unknown keys, lines without a colon and other line ends are ignored", () => {
  const text = "nonsense\r\nFuture: 1\r\nStoreDir:/nix/store\r\nPriority:   41\r\nWantMassQuery: 0";
  expect(parseNixCacheInfo(text)).toEqual({
    storeDir: "/nix/store",
    wantMassQuery: false,
    priority: 41,
  });
});

test("an empty file means Nix's defaults", () => {
  expect(parseNixCacheInfo("")).toEqual({
    storeDir: "/nix/store",
    wantMassQuery: false,
    priority: undefined,
  });
});

test.each([
  "StoreDir: nix/store\n",
  "StoreDir: \n",
  "Priority: high\n",
  "Priority: 1.5\n",
  "Priority: \n",
])("%j is CORRUPT", (text) => {
  expect(() => parseNixCacheInfo(text)).toThrow(expect.objectContaining({ code: "CORRUPT" }));
});
