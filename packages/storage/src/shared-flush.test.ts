import { expect, test } from "vitest";

import { shareFlushes } from "./shared-flush.ts";

/** Flushes that end when they are told to. */
function startFlushes(): {
  readonly flush: (name: string) => Promise<void>;
  readonly begun: { readonly name: string; readonly end: (error?: Error) => void }[];
} {
  const begun: { name: string; end: (error?: Error) => void }[] = [];
  const flush = shareFlushes((name) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    begun.push({ name, end: (error) => (error === undefined ? resolve() : reject(error)) });
    return promise;
  });
  return { flush, begun };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("who asks before a flush has begun shares it", async () => {
  const { flush, begun } = startFlushes();
  const both = Promise.all([flush("a"), flush("a")]);
  await turn();

  expect(begun).toHaveLength(1);
  begun[0]?.end();
  await both;
});

test("who asks while one runs gets the next one, however many they are", async () => {
  const { flush, begun } = startFlushes();
  const first = flush("a");
  await turn();
  let isDone = false;
  const later = Promise.all([flush("a"), flush("a"), flush("a")]).then(() => (isDone = true));

  begun[0]?.end();
  await first;
  await turn();
  expect(isDone).toBe(false);
  expect(begun).toHaveLength(2);
  begun[1]?.end();
  await later;
  expect(begun).toHaveLength(2);
});

test("a flush that fails fails for those who waited for it and for nobody after them", async () => {
  const { flush, begun } = startFlushes();
  const first = flush("a");
  await turn();
  const second = flush("a");

  begun[0]?.end(new Error("The disk is gone"));
  await expect(first).rejects.toThrow("The disk is gone");
  await turn();
  begun[1]?.end();
  await second;
});

test("different names do not wait for each other", async () => {
  const { flush, begun } = startFlushes();
  const both = [flush("a"), flush("b")];
  await turn();

  expect(begun.map(({ name }) => name)).toEqual(["a", "b"]);
  for (const { end } of begun) end();
  await Promise.all(both);
});
