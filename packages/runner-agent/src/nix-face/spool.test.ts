import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { CacheError } from "@glorious/core";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";

import { createSpool, type SpooledNar } from "./spool.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "spool-"));
});
afterAll(() => rm(directory, { recursive: true }));

const MAX_BYTES = 800_000;

async function readAll(nar: SpooledNar, start = 0): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(nar.read(start), (chunk) => Buffer.from(chunk)));
}

const step = fc.oneof(
  fc.record({ reserve: fc.integer({ min: 0, max: 400_000 }) }),
  fc.record({ append: fc.nat(), bytes: fc.integer({ min: 1, max: 90_000 }) }),
  fc.record({ end: fc.nat(), how: fc.constantFrom("complete", "fail", "release") }),
);

test("no order of things takes more room than there is, or loses any of it", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      await using spool = createSpool({ directory, maxBytes: MAX_BYTES });
      const held: { nar: SpooledNar; size: number; bytes: Buffer }[] = [];
      const pick = (number: number): (typeof held)[number] | undefined =>
        held[number % Math.max(1, held.length)];
      for (const each of steps) {
        if ("reserve" in each) {
          const before = spool.usedBytes;
          const nar = spool.reserve(each.reserve);
          expect(nar !== undefined).toBe(before + each.reserve <= MAX_BYTES);
          if (nar !== undefined) held.push({ nar, size: each.reserve, bytes: Buffer.alloc(0) });
        } else if ("append" in each) {
          const one = pick(each.append);
          if (one === undefined || one.nar.state !== "growing") continue;
          const chunk = Buffer.alloc(each.bytes, each.bytes);
          const fits = one.bytes.length + chunk.length <= one.size;
          const outcome = await one.nar.append(chunk).then(
            () => true,
            () => false,
          );
          expect(outcome).toBe(fits);
          if (fits) one.bytes = Buffer.concat([one.bytes, chunk]);
        } else {
          const one = pick(each.end);
          if (one === undefined) continue;
          if (each.how === "complete" && one.nar.state === "growing") {
            one.nar.complete();
            expect(await readAll(one.nar)).toEqual(one.bytes);
          } else if (each.how !== "complete") {
            held.splice(held.indexOf(one), 1);
            if (each.how === "fail") one.nar.fail(new CacheError("CANCELLED", "for a test"));
            await one.nar.release();
          }
        }
        expect(spool.usedBytes).toBe(held.reduce((sum, { size }) => sum + size, 0));
        // Files have no names: nothing is left of a process that is killed.
        expect(await readdir(directory)).toEqual([]);
      }
      await Promise.all(held.map(({ nar }) => nar.release()));
      expect(spool.usedBytes).toBe(0);
    }),
    { numRuns: 40 },
  );
});

test.each([1000, 300_000])("a NAR of %i bytes is read while it is written", async (size) => {
  await using spool = createSpool({ directory, maxBytes: MAX_BYTES });
  const nar = spool.reserve(size);
  if (nar === undefined) throw new Error("There was no room");
  const bytes = Buffer.from(Array.from({ length: size }, (_, at) => at % 251));
  const [whole, part] = [readAll(nar), readAll(nar, 700)];
  for (let at = 0; at < size; at += 333) await nar.append(bytes.subarray(at, at + 333));
  nar.complete();
  expect(await whole).toEqual(bytes);
  expect(await part).toEqual(bytes.subarray(700));
});

test("who reads a NAR that fails hears why", async () => {
  await using spool = createSpool({ directory, maxBytes: MAX_BYTES });
  const nar = spool.reserve(100);
  const read = nar && readAll(nar);
  await nar?.append(Buffer.from("half"));
  nar?.fail(new CacheError("TRUNCATED", "It broke off"));
  await expect(read).rejects.toThrow("It broke off");
  expect(nar?.state).toBe("failed");
});
