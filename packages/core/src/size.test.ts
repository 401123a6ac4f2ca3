import fc from "fast-check";
import { expect, test } from "vitest";

import { formatSizeBytes, parseSizeBytes } from "./size.ts";

test.each([
  ["0", 0],
  ["4096", 4096],
  ["64 MiB", 64 * 2 ** 20],
  ["1.5GB", 1_500_000_000],
  ["1 kib", 1024],
])("%s is %d bytes", (text, sizeBytes) => {
  expect(parseSizeBytes(text)).toBe(sizeBytes);
});

test.each(["", "MiB", "-1", "1.5", "4 parsecs", "0x10", "1 2", "99999999 TiB"])(
  "%j is refused with what to write instead",
  (text) => {
    expect(() => parseSizeBytes(text)).toThrow(
      expect.objectContaining({ code: "INVALID", hint: expect.stringContaining("64 MiB") }),
    );
  },
);

test("a formatted size reads back within its rounding", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 45 }), (sizeBytes) => {
      const [value, unit] = formatSizeBytes(sizeBytes).split(" ");
      const scale = parseSizeBytes(`1 ${unit}`);
      expect(Math.abs(Number(value) * scale - sizeBytes)).toBeLessThanOrEqual(scale * 0.051);
    }),
  );
});
