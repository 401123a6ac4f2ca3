import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { expect, test } from "vitest";

import { MemoryPool } from "../../src/bazel/memory/memory-pool.ts";
import type { BazelScope } from "../../src/bazel/store/bazel-store.ts";
import { openTenantStore } from "../../src/bazel/store/tenant-store.ts";
import { blobOf, listOf, type TestBlob } from "./blobs.ts";
import { HOUR_MS, missingOf } from "./store-contract.ts";

const POOL_BYTES = 2 ** 20;
/** What tables may have whatever others have, and what is set aside at once. */
const SLACK_BYTES = 256 * 2 ** 10;
const BATCH = 2000;

/** Tenants of one server, which share its memory. */
class Tenants implements AsyncDisposable {
  readonly pool: MemoryPool = new MemoryPool(POOL_BYTES);
  nowMs: number = Date.UTC(2026, 0, 1);
  readonly #directory: string;
  readonly #opened: AsyncDisposableStack = new AsyncDisposableStack();

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async create(): Promise<Tenants> {
    return new Tenants(await mkdtemp(join(tmpdir(), "shared-memory-")));
  }

  async open(tenant: string): Promise<BazelScope> {
    const store = await openTenantStore({
      directory: join(this.#directory, tenant),
      fsync: "none",
      now: () => this.nowMs,
      views: async () => new Map([[1, { maxBytes: undefined }]]),
      limits: {
        maxBytes: 2 ** 40,
        maxBlobBytes: 2 ** 30,
        ttlMs: 3 * HOUR_MS,
        memoryBytes: POOL_BYTES,
      },
      memory: this.pool,
    });
    this.#opened.use(store);
    return store.scope(1, "main");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#opened.disposeAsync();
    await rm(this.#directory, { recursive: true, force: true });
  }
}

function named(name: string, count: number): TestBlob[] {
  return Array.from({ length: count }, (_, at) => blobOf(`${name} ${at}`));
}

async function fill(scope: BazelScope, blobs: readonly TestBlob[]): Promise<void> {
  for (let from = 0; from < blobs.length; from += BATCH) {
    const some = blobs.slice(from, from + BATCH);
    await scope.putBlobs(
      some.map(({ key, sizeBytes, bytes }) => ({
        key,
        sizeBytes,
        form: "identity",
        source: bytes,
      })),
    );
  }
}

function remembered(scope: BazelScope, blobs: readonly TestBlob[]): number {
  return blobs.filter((blob) => scope.remembersAll(listOf([blob]))).length;
}

test("all tenants together keep to the bound, a flood leaves a small set in use alone, and nothing is lost", async () => {
  await using tenants = await Tenants.create();
  const small = await tenants.open("small");
  const flooded = await tenants.open("flooded");
  const hot = named("hot", 300);
  const flood = named("flood", 20_000);
  await fill(small, hot);

  await fill(flooded, flood);

  expect(tenants.pool.usedBytes).toBeLessThanOrEqual(POOL_BYTES + SLACK_BYTES);
  expect(remembered(small, hot)).toBe(hot.length);
  expect(remembered(flooded, flood)).toBeLessThan(flood.length);
  expect(await missingOf(flooded, flood)).toEqual([]);
  expect(await missingOf(small, hot)).toEqual([]);
});

test("a tenant alone has the memory that others do not use, and gives it back to one who comes", async () => {
  await using tenants = await Tenants.create();
  const first = await tenants.open("first");
  const blobs = named("first", 8000);
  await fill(first, blobs);
  expect(remembered(first, blobs)).toBeGreaterThan(POOL_BYTES / 2 / 68 - 1000);
  const before = remembered(first, blobs);

  tenants.nowMs += HOUR_MS / 60;
  for (const name of ["second", "third", "fourth"]) {
    const next = await tenants.open(name);
    const theirs = named(name, 4000);
    await fill(next, theirs);
    expect(remembered(next, theirs)).toBeGreaterThan(1000);
  }

  expect(tenants.pool.usedBytes).toBeLessThanOrEqual(POOL_BYTES + SLACK_BYTES);
  expect(remembered(first, blobs)).toBeLessThan(before);
  expect(await missingOf(first, blobs)).toEqual([]);
});

test("a store that is closed gives back all its memory", async () => {
  const tenants = await Tenants.create();
  await fill(await tenants.open("one"), named("one", 3000));
  expect(tenants.pool.usedBytes).toBeGreaterThan(0);

  await tenants[Symbol.asyncDispose]();

  expect(tenants.pool.usedBytes).toBe(0);
});
