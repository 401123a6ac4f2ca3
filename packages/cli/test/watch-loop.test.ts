import { rm, writeFile } from "node:fs/promises";
import path from "node:path";

import { CacheError, type CacheErrorCode } from "@glorious/core";
import { createTemporaryDirectory } from "@glorious/testkit";
import { expect, test } from "vitest";

import type { WatchEvent } from "../src/watch-store/watch-events.ts";
import { watchStore } from "../src/watch-store/watch-store.ts";

const HASH = "0c5b8vw40dr178xlpddw65q9gf1h2186";
const nameOf = (name: string): string => `${HASH}-${name}`;

/** A watched folder whose "Nix" says what the test says. */
async function createWatch(
  answer: (storePath: string, attempt: number) => CacheErrorCode | undefined,
) {
  const folder = await createTemporaryDirectory("flywheel-loop-");
  const valid = new Set<string>([nameOf("before")]);
  const pushed: string[] = [];
  const events: WatchEvent[] = [];
  const stop = new AbortController();
  let attempts = 0;
  let isListing = true;
  const ready = Promise.withResolvers<void>();
  const result = watchStore({
    store: {
      storeDir: folder.path,
      listValid: async () => {
        if (!isListing) throw new CacheError("CONFIG", "the database is locked");
        return Promise.resolve(new Set(valid));
      },
      keepValid: async (names) => Promise.resolve(names.filter((name) => valid.has(name))),
    },
    rules: { skipSources: false },
    emit: (event) => events.push(event),
    onReady: ready.resolve,
    push: async (paths) => {
      attempts += 1;
      for (const storePath of paths) {
        const code = answer(storePath, attempts);
        if (code !== undefined) throw new CacheError(code, `${storePath}: ${code}`);
      }
      pushed.push(...paths.map((storePath) => path.basename(storePath)));
      return Promise.resolve();
    },
    signal: stop.signal,
    drainMs: 3000,
    quietForMs: undefined,
    pollMs: 100,
    nowMs: () => performance.now(),
    random: () => 0,
  });
  await ready.promise;
  return {
    folder: folder.path,
    valid,
    pushed,
    events,
    setListing: (value: boolean) => {
      isListing = value;
    },
    end: async () => {
      stop.abort();
      return result;
    },
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await result;
      await folder[Symbol.asyncDispose]();
    },
  };
}

test("a path that the folder's watch never told of is found by asking Nix", async () => {
  await using watch = await createWatch(() => undefined);
  watch.valid.add(nameOf("missed")).add(nameOf("missed.drv"));
  await expect.poll(() => watch.pushed).toEqual([nameOf("missed")]);
  expect(await watch.end()).toEqual({ pushed: 1, refused: 0, unpushed: [] });
});

test("Nix not answering for a moment ends nothing", async () => {
  await using watch = await createWatch(() => undefined);
  watch.setListing(false);
  await expect
    .poll(() => watch.events)
    .toContainEqual({
      type: "warning",
      message: "the database is locked",
    });
  watch.valid.add(nameOf("later"));
  watch.setListing(true);
  await expect.poll(() => watch.pushed).toEqual([nameOf("later")]);
});

test("a removed lock means a path that is valid, or was given up", async () => {
  await using watch = await createWatch(() => undefined);
  for (const name of ["made", "failed"]) {
    const lock = path.join(watch.folder, `${nameOf(name)}.lock`);
    await writeFile(lock, "");
    if (name === "made") watch.valid.add(nameOf(name));
    await rm(lock);
  }
  await expect.poll(() => watch.pushed).toEqual([nameOf("made")]);
});

test("what cannot be pushed now is pushed later, and what never can is named", async () => {
  await using watch = await createWatch((storePath, attempt) => {
    if (attempt <= 2) return "UNAVAILABLE";
    return storePath.endsWith("-bad") ? "CORRUPT" : undefined;
  });
  watch.valid.add(nameOf("good")).add(nameOf("bad"));
  await expect.poll(() => watch.pushed).toEqual([nameOf("good")]);
  await expect
    .poll(() => watch.events.filter(({ type }) => type === "refused"))
    .toEqual([expect.objectContaining({ code: "CORRUPT" })]);
  expect(watch.events.filter(({ type }) => type === "retry").length).toBe(2);
  expect(await watch.end()).toEqual({ pushed: 1, refused: 1, unpushed: [] });
});

test("the drain tries again until its time is over", async () => {
  await using watch = await createWatch(() => "UNAVAILABLE");
  watch.valid.add(nameOf("stuck"));
  const startedMs = performance.now();
  const { unpushed } = await watch.end();
  expect(unpushed).toEqual([path.join(watch.folder, nameOf("stuck"))]);
  expect(performance.now() - startedMs).toBeLessThan(20_000);
  expect(watch.events.filter(({ type }) => type === "retry").length).toBeGreaterThan(1);
});
