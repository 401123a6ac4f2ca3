import type { MemoryLease } from "@glorious/grpc";
import fc from "fast-check";
import { expect, test } from "vitest";

import { type BudgetUser, FairBudget } from "./fair-budget.ts";

const ask = (
  budget: FairBudget,
  user: BudgetUser,
  { bytes, group = "a", most = bytes }: { bytes: number; group?: string; most?: number },
  onGranted: () => void = () => {},
): MemoryLease => budget.ask(user, { group, leastBytes: bytes, mostBytes: most }, onGranted);

test("one user alone has half at most, and gets more when it gives some back", () => {
  const budget = new FairBudget(100);
  const user = budget.openUser();
  const leases = Array.from({ length: 6 }, () => ask(budget, user, { bytes: 10 }));

  expect(leases.map(({ sizeBytes }) => sizeBytes)).toEqual([10, 10, 10, 10, 10, 0]);

  leases[0]?.release();
  expect(leases[5]?.sizeBytes).toBe(10);
});

test("a group that holds all that it may leaves room for another", () => {
  const budget = new FairBudget(100);
  for (let user = 0; user < 20; user += 1) {
    const greedy = budget.openUser();
    for (let call = 0; call < 20; call += 1) ask(budget, greedy, { bytes: 1 });
  }
  expect(budget.freeBytes).toBeGreaterThanOrEqual(12);

  const lease = ask(budget, budget.openUser(), { bytes: 12, group: "b" });

  expect(lease.sizeBytes).toBe(12);
});

test("who asks for more than there is waits for all of it, and nobody overtakes", () => {
  const budget = new FairBudget(100);
  const first = ask(budget, budget.openUser(), { bytes: 10 });
  const large = ask(budget, budget.openUser(), { bytes: 500, group: "b" });
  const small = ask(budget, budget.openUser(), { bytes: 1, group: "c" });
  expect([large.sizeBytes, small.sizeBytes]).toEqual([0, 0]);

  first.release();
  expect([large.sizeBytes, small.sizeBytes]).toEqual([100, 0]);

  large.release();
  expect(small.sizeBytes).toBe(1);
});

test("more than the least is given while there is plenty", () => {
  const budget = new FairBudget(100);
  const plenty = ask(budget, budget.openUser(), { bytes: 10, most: 40 });
  const scarce = ask(budget, budget.openUser(), { bytes: 10, most: 40, group: "b" });

  expect([plenty.sizeBytes, scarce.sizeBytes]).toEqual([40, 10]);
});

test("those who wait take turns", () => {
  const budget = new FairBudget(100);
  const all = ask(budget, budget.openUser(), { bytes: 100 });
  const order: string[] = [];
  const leases = ["x", "y"].flatMap((name) => {
    const user = budget.openUser();
    return [1, 2].map((turn) =>
      ask(budget, user, { bytes: 1, group: name }, () => order.push(`${name}${turn}`)),
    );
  });

  all.release();

  expect(order).toEqual(["x1", "y1", "x2", "y2"]);
  expect(leases.every(({ sizeBytes }) => sizeBytes === 1)).toBe(true);
});

test("a wish that is given up lets those behind it go on", () => {
  const budget = new FairBudget(100);
  const held = ask(budget, budget.openUser(), { bytes: 60 });
  const large = ask(budget, budget.openUser(), { bytes: 80, group: "b" });
  const small = ask(budget, budget.openUser(), { bytes: 5, group: "c" });

  large.release();

  expect(small.sizeBytes).toBe(5);
  held.release();
  held.release();
  small.release();
  expect(budget.freeBytes).toBe(100);
});

test("whatever is asked and given back, the sum holds and nobody waits when all is free", () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          user: fc.nat(4),
          group: fc.constantFrom("a", "b", "c"),
          bytes: fc.integer({ min: 1, max: 120 }),
          more: fc.nat(40),
          releases: fc.nat(30),
        }),
      ),
      (steps) => {
        const budget = new FairBudget(100);
        const users = Array.from({ length: 5 }, () => budget.openUser());
        const open: MemoryLease[] = [];
        const used = (): number => open.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
        for (const { user, group, bytes, more, releases } of steps) {
          open.push(ask(budget, users[user] as BudgetUser, { bytes, group, most: bytes + more }));
          expect(budget.freeBytes).toBeGreaterThanOrEqual(0);
          expect(used() + budget.freeBytes).toBe(100);
          if (releases < open.length) open.splice(releases, 1)[0]?.release();
          expect(used() + budget.freeBytes).toBe(100);
        }
        // Whoever has some gives it back in the end, and then everybody had some.
        while (open.length > 0) {
          const at = open.findIndex(({ sizeBytes }) => sizeBytes > 0);
          expect(at).toBeGreaterThanOrEqual(0);
          open.splice(at, 1)[0]?.release();
        }
        expect(budget.freeBytes).toBe(100);
        expect(budget.waitingUsers).toBe(0);
      },
    ),
  );
});
