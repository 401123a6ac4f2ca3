import { appendFile, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";

import { appendToQueue, openSpool, parseJournal, parseQueue } from "../src/uploads/spool.ts";

const HASH = "0c5b8vw40dr178xlpddw65q9gf1h218";
const DIGITS = "0123456789abcdfghijklmnpqrsvwxyz";
const pathOf = (index: number): string => `/nix/store/${HASH}${DIGITS[index]}-p${index}`;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "flywheel-spool-"));
});
afterAll(() => rm(folder, { recursive: true }));

test("a line may hold several paths, and what is no store path is left out", () => {
  const text = `${pathOf(1)} ${pathOf(2)}\n\nnonsense /nix/store/x\n${pathOf(1)}\n${pathOf(3)}`;
  expect(parseQueue(text)).toEqual([pathOf(1), pathOf(2)]);
});

test("a torn journal line counts for nothing", () => {
  expect(parseJournal(`P ${pathOf(1)}\nP /nix/st\nR ${pathOf(2)}\nP ${pathOf(3)}`)).toEqual(
    new Set([pathOf(1), "/nix/st", pathOf(2)]),
  );
});

test("a reader sees each path once, and the half of a line only when the rest is there", async () => {
  const files = { queueFile: path.join(folder, "q1"), journalFile: path.join(folder, "j1") };
  const spool = await openSpool(files);
  expect(await spool.readNew()).toEqual([]);
  await appendToQueue(files.queueFile, [pathOf(1), "nonsense"]);
  await appendFile(files.queueFile, pathOf(2).slice(0, 20));
  expect(await spool.readNew()).toEqual([pathOf(1)]);
  await appendFile(files.queueFile, pathOf(2).slice(20, 25));
  expect(await spool.readNew()).toEqual([]);
  await appendFile(files.queueFile, `${pathOf(2).slice(25)}\n${pathOf(1)}\n`);
  expect(await spool.readNew()).toEqual([pathOf(2)]);
});

const step = fc.oneof(
  fc.record({ kind: fc.constant("build" as const), path: fc.nat(31) }),
  fc.record({ kind: fc.constant("push" as const) }),
  // What a kill leaves of the journal's last line.
  fc.record({ kind: fc.constant("kill" as const), torn: fc.nat(40) }),
);

test("whenever the reader is killed, no path is lost and none is made up", async () => {
  let round = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      round += 1;
      const files = {
        queueFile: path.join(folder, `queue-${round}`),
        journalFile: path.join(folder, `journal-${round}`),
      };
      await writeFile(files.journalFile, "");
      let spool = await openSpool(files);
      let waiting = new Set<string>();
      const built = new Set<string>();
      const pushed = new Set<string>();
      for (const each of steps) {
        if (each.kind === "build") {
          await appendToQueue(files.queueFile, [pathOf(each.path)]);
          built.add(pathOf(each.path));
        } else if (each.kind === "push") {
          for (const found of await spool.readNew()) waiting.add(found);
          const [next] = waiting;
          if (next === undefined) continue;
          pushed.add(next);
          await spool.settle([next], "pushed");
          waiting.delete(next);
        } else {
          const { length } = await readFile(files.journalFile);
          const kept = Math.max(0, length - each.torn);
          if (each.torn > 0) await truncate(files.journalFile, kept);
          spool = await openSpool(files);
          waiting = new Set();
        }
      }
      spool = await openSpool(files);
      const left = new Set(await spool.readNew());
      for (const each of built) expect(pushed.has(each) || left.has(each)).toBe(true);
      for (const each of left) expect(built.has(each)).toBe(true);
    }),
    { numRuns: 60 },
  );
});
