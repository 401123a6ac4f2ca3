import fc from "fast-check";
import { expect, test } from "vitest";

import { parseRange } from "./range.ts";

test.each([
  [undefined, undefined],
  ["bytes=0-", { start: 0, end: 100 }],
  ["bytes=10-19", { start: 10, end: 20 }],
  ["bytes=10-1000", { start: 10, end: 100 }],
  ["bytes=-30", { start: 70, end: 100 }],
  ["bytes=-1000", { start: 0, end: 100 }],
  ["Bytes=99-", { start: 99, end: 100 }],
  ["bytes=20-10", undefined],
  ["bytes=-", undefined],
  ["bytes=0-1,5-6", undefined],
  ["lines=0-1", undefined],
  ["bytes=a-b", undefined],
])("%s of 100 bytes is %j", (header, range) => {
  expect(parseRange(header, 100)).toEqual(range);
});

test.each(["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=99999999999999999999-"])(
  "%s of 100 bytes is refused",
  (header) => {
    expect(() => parseRange(header, 100)).toThrow(expect.objectContaining({ code: "RANGE" }));
  },
);

test("whatever the header says, a range lies inside the representation", () => {
  const header = fc.oneof(
    fc.string(),
    fc.tuple(fc.nat(), fc.nat()).map(([first, last]) => `bytes=${first}-${last}`),
  );
  fc.assert(
    fc.property(header, fc.nat(1_000_000), (text, sizeBytes) => {
      try {
        const range = parseRange(text, sizeBytes);
        if (range === undefined) return;
        expect(range.start).toBeGreaterThanOrEqual(0);
        expect(range.start).toBeLessThan(range.end);
        expect(range.end).toBeLessThanOrEqual(sizeBytes);
      } catch (error) {
        expect(error).toMatchObject({ code: "RANGE" });
      }
    }),
  );
});
