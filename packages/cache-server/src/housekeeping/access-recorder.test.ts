import { silentLogger } from "@glorious/core";
import { expect, test } from "vitest";

import type { NarTouch, PathTouch } from "../index/housekeeping-index.ts";
import { type AccessRecorder, createAccessRecorder } from "./access-recorder.ts";

interface Recording {
  readonly recorder: AccessRecorder;
  readonly paths: PathTouch[];
  readonly nars: NarTouch[];
  readonly clock: { nowMs: number; isFull: boolean; writes: number };
}

function record(maxPending?: number): Recording {
  const clock = { nowMs: 1_000_000, isFull: false, writes: 0 };
  const paths: PathTouch[] = [];
  const nars: NarTouch[] = [];
  const recorder = createAccessRecorder({
    index: {
      async touchPaths(touches) {
        clock.writes += 1;
        if (clock.isFull) throw new Error("The disk is full");
        paths.push(...touches);
      },
      async touchNars(touches) {
        if (clock.isFull) throw new Error("The disk is full");
        nars.push(...touches);
      },
    },
    logger: silentLogger,
    now: () => clock.nowMs,
    resolutionMs: 100,
    flushIntervalMs: 1_000_000,
    ...(maxPending === undefined ? {} : { maxPending }),
  });
  return { recorder, paths, nars, clock };
}

test("a use is recorded once within the resolution, in each view, and not when the index knows it", async () => {
  const { recorder, paths, clock } = record();
  void recorder.usePath(1, "a");
  void recorder.usePath(1, "a");
  void recorder.usePath(2, "a");
  void recorder.usePath(1, "known", clock.nowMs - 99);
  void recorder.usePath(1, "old", clock.nowMs - 100);
  await recorder.flush();
  expect(paths.map(({ viewId, storePathHash }) => `${viewId} ${storePathHash}`)).toEqual([
    "1 a",
    "2 a",
    "1 old",
  ]);

  clock.nowMs += 99;
  void recorder.usePath(1, "a");
  await recorder.flush();
  expect(paths).toHaveLength(3);
  expect(clock.writes).toBe(1);

  void recorder.usePath(1, "known");
  clock.nowMs += 1;
  void recorder.usePath(1, "a");
  await recorder.flush();
  expect(paths.slice(3)).toEqual([
    { viewId: 1, storePathHash: "known", atMs: 1_000_099 },
    { viewId: 1, storePathHash: "a", atMs: 1_000_100 },
  ]);
});

test("a NAR is looked up only when its use is recorded", async () => {
  const { recorder, paths, nars } = record();
  let lookUps = 0;
  for (const _ of [1, 2, 3]) {
    recorder.useNar(1, "file", () => {
      lookUps += 1;
      return { kind: "file", fileHash: "f" };
    });
    recorder.useNar(1, "path", () => ({ kind: "path", storePathHash: "p" }));
    recorder.useNar(1, "nonsense", () => undefined);
  }
  await recorder.flush();
  expect(lookUps).toBe(1);
  expect(nars).toEqual([{ viewId: 1, fileHash: "f", atMs: 1_000_000 }]);
  expect(paths).toEqual([{ viewId: 1, storePathHash: "p", atMs: 1_000_000 }]);
});

test("what could not be written is written later, and no more is kept than is allowed", async () => {
  const { recorder, paths, clock } = record(10);
  clock.isFull = true;
  void recorder.usePath(1, "first");
  await expect(recorder.flush()).rejects.toThrow("full");
  for (let number = 0; number < 100; number += 1) void recorder.usePath(1, `path ${number}`);
  await expect(recorder.flush()).rejects.toThrow("full");
  clock.isFull = false;
  await recorder.stop();
  expect(paths).toHaveLength(10);
  expect(paths[0]).toMatchObject({ storePathHash: "first" });

  // What found no room was not taken for recorded.
  void recorder.usePath(1, "path 99");
  await recorder.flush();
  expect(paths.at(-1)).toMatchObject({ storePathHash: "path 99" });
});

test("much to write is written before its time, and what is remembered has a bound", async () => {
  const { recorder, paths, clock } = record(10);
  for (let number = 0; number < 5; number += 1) void recorder.usePath(1, `path ${number}`);
  await expect.poll(() => paths.length).toBe(5);

  for (let number = 0; number < 1000; number += 1)
    void recorder.usePath(1, `${number}`, clock.nowMs);
  void recorder.usePath(1, "path 0");
  await recorder.flush();
  expect(paths).toHaveLength(6);
});

test("nothing that a push relies on is forgotten, however much it asks about at once", async () => {
  const { recorder, paths } = record(10);
  void recorder.usePaths(
    1,
    Array.from({ length: 1000 }, (_, number) => `${number}`),
  );
  await recorder.flush();
  expect(paths).toHaveLength(1000);
});

test("a deletion knows every use before it, and whoever uses what is going waits for its end", async () => {
  const { recorder, paths } = record();
  void recorder.usePath(1, "used");
  const order: string[] = [];
  const deletion = recorder.guardDeletion(1, ["going", "used"], async () => {
    order.push(`deleting after ${paths[0]?.storePathHash} was written`);
    await new Promise((resolve) => setImmediate(resolve));
    order.push("deleted");
    return "done";
  });

  const wait = recorder.usePaths(1, ["staying", "going"]);
  expect(wait).toBeInstanceOf(Promise);
  expect(recorder.usePath(2, "going")).toBeUndefined();
  expect(recorder.usePaths(1, ["staying"])).toBeUndefined();
  await wait;
  order.push("looked again");

  expect(await deletion).toBe("done");
  expect(order).toEqual(["deleting after used was written", "deleted", "looked again"]);
  expect(recorder.usePath(1, "going")).toBeUndefined();
});

test("nothing is deleted when the uses before cannot be written", async () => {
  const { recorder, clock } = record();
  void recorder.usePath(1, "used");
  clock.isFull = true;
  const deleteNothing = (): Promise<never> => Promise.reject(new Error("Not to be called"));
  await expect(recorder.guardDeletion(1, ["a"], deleteNothing)).rejects.toThrow("full");
  expect(recorder.usePath(1, "a")).toBeUndefined();
});
