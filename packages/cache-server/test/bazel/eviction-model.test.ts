import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import fc from "fast-check";
import { expect, test } from "vitest";

import type { BazelScope, BazelStore } from "../../src/bazel/store/bazel-store.ts";
import { openTenantStore } from "../../src/bazel/store/tenant-store.ts";
import { blobOf, listOf } from "./blobs.ts";
import { HOUR_MS, missingOf, put, read } from "./store-contract.ts";

const TTL_MS = 3 * HOUR_MS;
const BLOBS = Array.from({ length: 8 }, (_, at) =>
  blobOf(`blob ${at} `.repeat(at % 2 === 0 ? 100 : 5000)),
);
const ACTIONS = Array.from({ length: 6 }, (_, at) => blobOf(`action ${at}`).key);

type Step =
  | { readonly do: "upload"; readonly blob: number; readonly scope: number }
  | { readonly do: "find"; readonly blob: number; readonly scope: number }
  | { readonly do: "lose"; readonly blob: number; readonly scope: number }
  | {
      readonly do: "update";
      readonly action: number;
      readonly needs: readonly number[];
      readonly scope: number;
    }
  | { readonly do: "get"; readonly action: number; readonly scope: number }
  | { readonly do: "wait"; readonly hours: number }
  | { readonly do: "evict" }
  | { readonly do: "pack" }
  | { readonly do: "reopen" };

const scope = fc.nat(1);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant("upload" as const), blob: fc.nat(7), scope }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("find" as const), blob: fc.nat(7), scope }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("lose" as const), blob: fc.nat(7), scope }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("update" as const),
      action: fc.nat(5),
      needs: fc.uniqueArray(fc.nat(7), { maxLength: 3 }),
      scope,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant("get" as const), action: fc.nat(5), scope }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant("wait" as const), hours: fc.constantFrom(0.1, 1, 4) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("evict" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("reopen" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("pack" as const) }) },
);

/** What clients were told, and so may count on. */
class Promises {
  readonly #until: Map<string, number> = new Map();

  give(name: string, nowMs: number): void {
    this.#until.set(name, nowMs + TTL_MS);
  }

  /** Lost bytes are nobody's choice. */
  takeBack(name: string): void {
    this.#until.delete(name);
  }

  holds(name: string, nowMs: number): boolean {
    return (this.#until.get(name) ?? -1) >= nowMs;
  }
}

test("whatever happens, what an ActionResult needs is there when it is given and for the TTL after", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const directory = await mkdtemp(join(tmpdir(), "eviction-model-"));
      let nowMs = Date.UTC(2026, 0, 1);
      const open = (): Promise<BazelStore> =>
        openTenantStore({
          directory,
          fsync: "none",
          now: () => nowMs,
          views: async () => new Map([[1, { maxBytes: undefined }]]),
          limits: { maxBytes: 100_000, maxBlobBytes: 2 ** 30, ttlMs: TTL_MS, memoryBytes: 2 ** 16 },
        });
      let store = await open();
      const needsOf = new Map<string, readonly number[]>();
      const promises = new Promises();
      const scopeOf = (at: number): BazelScope => store.scope(1, at === 0 ? "main" : "main/pr");
      try {
        for (const each of steps) {
          if (each.do === "wait") {
            nowMs += each.hours * HOUR_MS;
          } else if (each.do === "evict") {
            await store.evict();
          } else if (each.do === "pack") {
            await store.pack();
          } else if (each.do === "reopen") {
            await store[Symbol.asyncDispose]();
            store = await open();
          } else if (each.do === "lose") {
            await store.lose(BLOBS[each.blob]?.key ?? blobOf("").key);
            for (const other of [0, 1]) promises.takeBack(`${other}/${each.blob}`);
          } else if (each.do === "upload") {
            const blob = BLOBS[each.blob] ?? blobOf("");
            const isFull = await put(scopeOf(each.scope), blob).then(
              () => false,
              (error: unknown) => {
                expect(error).toMatchObject({ code: "STORAGE_FULL" });
                return true;
              },
            );
            if (!isFull) promises.give(`${each.scope}/${each.blob}`, nowMs);
          } else if (each.do === "find") {
            const blob = BLOBS[each.blob] ?? blobOf("");
            const missing = await missingOf(scopeOf(each.scope), [blob]);
            const name = `${each.scope}/${each.blob}`;
            if (missing.length === 0) promises.give(name, nowMs);
            else expect(promises.holds(name, nowMs)).toBe(false);
          } else if (each.do === "update") {
            const needs = each.needs.map((at) => BLOBS[at] ?? blobOf(""));
            const key = ACTIONS[each.action] ?? blobOf("").key;
            const stored = await scopeOf(each.scope)
              .putAction(key, Buffer.from(each.needs.join(" ")), listOf(needs))
              .then(
                () => true,
                () => false,
              );
            if (stored) needsOf.set(`${each.scope}/${each.action}`, each.needs);
          } else {
            const owner = scopeOf(each.scope);
            const found = await owner.findAction(ACTIONS[each.action] ?? blobOf("").key);
            if (found.kind !== "hit") continue;
            const needs = needsOf.get(`${each.scope}/${each.action}`) ?? [];
            expect(found.result.toString()).toBe(needs.join(" "));
            for (const at of needs) {
              const blob = BLOBS[at] ?? blobOf("");
              expect(await read(owner, blob)).toEqual(blob.bytes);
              promises.give(`${each.scope}/${at}`, nowMs);
            }
          }
        }
        for (const at of [0, 1]) {
          const held = BLOBS.filter((_, index) => promises.holds(`${at}/${index}`, nowMs));
          expect(await missingOf(scopeOf(at), held)).toEqual([]);
        }
        expect(store.storedBytes).toBeLessThanOrEqual(100_000 + 10_000);
      } finally {
        await store[Symbol.asyncDispose]();
        await rm(directory, { recursive: true, force: true });
      }
    }),
    { numRuns: 60 },
  );
}, 120_000);
