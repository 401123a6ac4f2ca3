import fc from "fast-check";
import { expect, test } from "vitest";

import { PortableAsyncDisposableStack } from "./async-disposable-stack.ts";

/** What is put on a stack, and whether it fails when it is taken off. */
const item = fc.record({ kind: fc.constantFrom("use", "adopt", "defer"), fails: fc.boolean() });
type Item = Readonly<{ kind: string; fails: boolean }>;

async function takeDown(stack: AsyncDisposableStack, items: readonly Item[]): Promise<unknown> {
  const log: number[] = [];
  for (const [index, { kind, fails }] of items.entries()) {
    const dispose = (): void => {
      log.push(index);
      if (fails) throw new Error(`item ${index}`);
    };
    if (kind === "use") stack.use({ [Symbol.dispose]: dispose });
    else if (kind === "adopt") stack.adopt(index, dispose);
    else stack.defer(dispose);
  }
  const moved = stack.move();
  const before = [stack.disposed, moved.disposed];
  const hasFailed = await moved.disposeAsync().then(
    () => false,
    () => true,
  );
  await moved.disposeAsync();
  return { log, before, hasFailed, after: moved.disposed };
}

test("the stack for Node 22 behaves as the one of newer Nodes", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(item, { maxLength: 6 }), async (items) => {
      expect(await takeDown(new PortableAsyncDisposableStack(), items)).toEqual(
        await takeDown(new AsyncDisposableStack(), items),
      );
    }),
  );
});
