import { setImmediate as nextTurn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { expect, test } from "vitest";

import { abortable } from "./abortable.ts";

async function* countTo(last: number, onReturn = (): void => {}): AsyncGenerator<number> {
  try {
    for (let value = 1; value <= last; value += 1) yield value;
  } finally {
    onReturn();
  }
}

test.each([undefined, new AbortController().signal])(
  "values pass unchanged (%j)",
  async (signal) => {
    expect(await Array.fromAsync(abortable(countTo(3), "Counting", signal))).toEqual([1, 2, 3]);
  },
);

test("a silent source does not keep an aborted reader waiting", async () => {
  const abort = new AbortController();
  const silent: AsyncIterable<number> = {
    [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }),
  };
  const reading = Array.fromAsync(abortable(silent, "Waiting", abort.signal));

  abort.abort(new Error("bored"));

  await expect(reading).rejects.toMatchObject({
    code: "CANCELLED",
    message: "Waiting was cancelled",
    cause: expect.objectContaining({ message: "bored" }),
  });
});

test("an aborted signal stops before the first value, and between values", async () => {
  await expect(
    Array.fromAsync(abortable(countTo(3), "Counting", AbortSignal.abort())),
  ).rejects.toMatchObject({ code: "CANCELLED" });

  const abort = new AbortController();
  const seen: number[] = [];
  let isReturned = false;
  const reading = (async () => {
    const source = countTo(3, () => (isReturned = true));
    for await (const value of abortable(source, "Counting", abort.signal)) {
      seen.push(value);
      abort.abort();
    }
  })();
  await expect(reading).rejects.toMatchObject({ code: "CANCELLED" });
  expect({ seen, isReturned }).toEqual({ seen: [1], isReturned: true });
});

test("a consumer that stops early stops the source", async () => {
  let isReturned = false;
  const source = countTo(3, () => (isReturned = true));
  for await (const value of abortable(source, "Counting", new AbortController().signal)) {
    expect(value).toBe(1);
    break;
  }
  expect(isReturned).toBe(true);
});

test("values that the consumer has left behind are not kept", async () => {
  setFlagsFromString("--expose-gc");
  const collectGarbage: () => void = runInNewContext("gc");
  const seen: WeakRef<object>[] = [];
  const source = (async function* () {
    for (let count = 0; count < 10; count += 1) yield { count };
  })();
  let kept = 0;
  for await (const value of abortable(source, "Counting", new AbortController().signal)) {
    seen.push(new WeakRef(value));
    if (value.count < 9) continue;
    await nextTurn();
    collectGarbage();
    kept = seen.filter((ref) => ref.deref() !== undefined).length;
  }
  // The present value, and at most one that an iterator has not yet dropped.
  expect(kept).toBeLessThanOrEqual(2);
});
