import fc from "fast-check";
import { expect, test } from "vitest";

import { MemoryPool } from "../memory/memory-pool.ts";
import { RecordLog } from "./record-log.ts";

const record = fc.record({
  main: fc.uint8Array({ maxLength: 90 }),
  extra: fc.option(fc.uint8Array({ maxLength: 60 })),
});

test("a record is what was put there, or gone; those that go are the oldest", () => {
  fc.assert(
    fc.property(fc.array(record, { maxLength: 300, size: "max" }), (records) => {
      const log = new RecordLog({ maxBytes: 4 * 2048, pieceBytes: 2048, memory: plenty() });
      const places = records.map((each) => log.append(each));
      expect(places[0] ?? 1).toBeGreaterThan(0);
      let isOneHere = false;
      for (const [at, { main, extra }] of records.entries()) {
        const place = places[at] ?? 0;
        if (place === 0) {
          expect(main.length + (extra?.length ?? 0)).toBeGreaterThan(2048 / 16 - 16);
          continue;
        }
        const found = log.read(place);
        if (found === undefined) {
          expect(isOneHere).toBe(false);
          continue;
        }
        isOneHere = true;
        expect(Buffer.compare(found.main, main)).toBe(0);
        expect(found.extra && [...found.extra]).toEqual(extra && [...extra]);
        expect((found.extra?.byteOffset ?? 0) % 8).toBe(0);
      }
    }),
  );
});

test("a log without room keeps nothing", () => {
  const log = new RecordLog({ maxBytes: 1000, pieceBytes: 2048, memory: plenty() });
  expect(log.append({ main: new Uint8Array(1), extra: null })).toBe(0);
  expect(log.read(0)).toBeUndefined();
  expect(log.isFullFor(1)).toBe(true);
});

function plenty(): ReturnType<MemoryPool["join"]> {
  return new MemoryPool(2 ** 40).join({ usedAtMs: 0, release: () => {} });
}
