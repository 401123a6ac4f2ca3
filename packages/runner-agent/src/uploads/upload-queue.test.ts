import fc from "fast-check";
import { expect, test } from "vitest";

import { createUploadQueue } from "./upload-queue.ts";

test("waits double up to their bound and start anew after a success", () => {
  const queue = createUploadQueue({ random: () => 0.999_999, maxDelayMs: 3000 });
  const delays: number[] = [];
  for (let round = 0; round < 4; round += 1) {
    queue.add("a");
    delays.push(queue.fail(queue.take(), 0));
  }
  expect(delays).toEqual([1000, 2000, 3000, 3000]);
  expect(queue.dueAtMs()).toBe(3000);
  queue.hurry(1000);
  expect(queue.dueAtMs()).toBe(0);
  expect(queue.fail(queue.take(), 0)).toBe(1000);
  queue.settle(queue.take());
  queue.add("b");
  expect(queue.fail(queue.take(), 0)).toBe(1000);
});

test("what comes again while it is under way is pushed once more", () => {
  const queue = createUploadQueue({ random: () => 0 });
  queue.add("a");
  const batch = queue.take();
  queue.add("a");
  expect(queue.size).toBe(1);
  queue.settle(batch);
  expect(queue.take()).toEqual(["a"]);
});

const action = fc.oneof(
  fc.record({ kind: fc.constant("add" as const), path: fc.nat(20).map(String) }),
  fc.record({ kind: fc.constantFrom("take" as const, "settle" as const, "fail" as const) }),
);

test("no path is ever lost, and no batch is larger than allowed", () => {
  fc.assert(
    fc.property(fc.array(action), (actions) => {
      const queue = createUploadQueue({ random: () => 0.5, maxBatch: 3 });
      const model = new Set<string>();
      let batch: readonly string[] = [];
      let later = new Set<string>();
      for (const step of actions) {
        if (step.kind === "add") {
          queue.add(step.path);
          model.add(step.path);
          if (batch.includes(step.path)) later.add(step.path);
        } else if (step.kind === "take" && batch.length === 0) {
          batch = queue.take();
          expect(batch.length).toBeLessThanOrEqual(3);
        } else if (step.kind === "settle") {
          queue.settle(batch);
          for (const path of batch) if (!later.has(path)) model.delete(path);
          [batch, later] = [[], new Set()];
        } else if (step.kind === "fail") {
          queue.fail(batch, 0);
          [batch, later] = [[], new Set()];
        }
        expect(new Set(queue.list())).toEqual(model);
        expect(queue.size).toBe(model.size);
      }
    }),
  );
});
