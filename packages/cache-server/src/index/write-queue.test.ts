import { expect, test } from "vitest";

import { WriteQueue } from "./write-queue.ts";

/** A runner that remembers its batches and ends each when it is told to. */
function recordBatches() {
  const batches: { readonly operations: readonly number[]; readonly end: () => void }[] = [];
  const started = { next: Promise.withResolvers<void>() };
  const runBatch = async (operations: readonly number[]): Promise<number[]> => {
    const ended = Promise.withResolvers<void>();
    batches.push({ operations, end: ended.resolve });
    started.next.resolve();
    await ended.promise;
    return operations.map((operation) => operation * 10);
  };
  const batch = async (at: number): Promise<{ operations: readonly number[]; end: () => void }> => {
    while (batches[at] === undefined) {
      await started.next.promise;
      started.next = Promise.withResolvers();
    }
    return batches[at];
  };
  return { runBatch, batch, batches };
}

test("what arrives in one turn, or while a batch runs, shares a batch", async () => {
  const { runBatch, batch, batches } = recordBatches();
  const queue = new WriteQueue(runBatch);

  const first = [queue.run(1), queue.run(2)];
  const one = await batch(0);
  const second = [queue.run(3), queue.run(4), queue.run(5)];
  expect(batches).toHaveLength(1);
  expect(queue.waiting).toBe(3);
  one.end();
  const two = await batch(1);
  expect(queue.waiting).toBe(0);
  two.end();

  expect(one.operations).toEqual([1, 2]);
  expect(two.operations).toEqual([3, 4, 5]);
  expect(await Promise.all([...first, ...second])).toEqual([10, 20, 30, 40, 50]);
});

test("nothing resolves before its batch has ended", async () => {
  const { runBatch, batch } = recordBatches();
  const queue = new WriteQueue(runBatch);
  let isDone = false;
  const run = queue.run(1).then(() => (isDone = true));
  const one = await batch(0);
  await new Promise((resolve) => setImmediate(resolve));
  expect(isDone).toBe(false);
  one.end();
  await run;
});

test("a batch that fails rejects all of it and none of the next", async () => {
  let batches = 0;
  const queue = new WriteQueue<string, string>(async (operations) => {
    batches += 1;
    if (batches === 1) throw new Error("no disk");
    return operations;
  });
  const [a, b] = await Promise.allSettled([queue.run("a"), queue.run("b")]);

  expect(a).toMatchObject({ status: "rejected", reason: { message: "no disk" } });
  expect(b.status).toBe("rejected");
  expect(await queue.run("c")).toBe("c");
});

test("a queue is idle once everything it was given has settled", async () => {
  const settled: number[] = [];
  const queue = new WriteQueue<number, number>(async (operations) => operations);
  const runs = [1, 2].map((operation) => queue.run(operation).then((done) => settled.push(done)));
  await queue.idle();
  await Promise.all(runs);
  expect(settled).toEqual([1, 2]);
  await queue.idle();
});
