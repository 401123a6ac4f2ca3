import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";

import { createTemporaryDirectory, type RunningFlywheel, startFlywheel } from "@glorious/testkit";
import { expect, test } from "vitest";

import { IS_LONG, SEED } from "../faults/scale.ts";
import { createRandom } from "../random.ts";
import { createVirtualClock } from "../virtual-clock.ts";
import { createLedger } from "./churn/ledger.ts";
import { openRemoteCache, type RemoteCache } from "./churn/remote-cache.ts";
import { type ChurnFigures, runChurn } from "./churn/run-churn.ts";
import { flywheel } from "./use-bazel.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const TTL_MS = 3 * HOUR_MS;

const SCALE = IS_LONG
  ? { realMs: 600_000, clients: 48, kills: 12, actionsPerHour: 400, maxSize: 160 * 2 ** 20 }
  : { realMs: 60_000, clients: 16, kills: 4, actionsPerHour: 60, maxSize: 24 * 2 ** 20 };
/** The day's clock runs so much faster than the machine's. */
const RATE = DAY_MS / SCALE.realMs;
const VIEW_LIMIT = Math.floor(SCALE.maxSize / 3);
/** A minute, and what a busy machine may take to write down the uses of one. */
const FORGOTTEN_MS = 60_000 + 1500 * RATE;

const TENANTS = [
  { tenant: "acme", views: ["acme+main", "acme+small"] },
  { tenant: "other", views: ["other+main"] },
];

test("a day of churn in a full cache that is killed now and then breaks no promise, and mixes no tenants", async () => {
  await using directory = await createTemporaryDirectory("churn-");
  await using clock = await createVirtualClock(RATE);
  const start = (listen: string): Promise<RunningFlywheel> =>
    startFlywheel({
      listen,
      dataDirectory: path.join(directory.path, "data"),
      env: {
        ...clock.env,
        FLYWHEEL_BAZEL_MAX_SIZE: String(SCALE.maxSize),
        // So little that what is asked for is in the index more often than in memory.
        FLYWHEEL_BAZEL_MEMORY: String(2 ** 20),
        // A kill loses nothing that a file system has.
        FLYWHEEL_STORE_FSYNC: "none",
        FLYWHEEL_LOG_LEVEL: "warn",
        FLYWHEEL_LOG_REQUESTS: "false",
      },
    });
  let server = await start("127.0.0.1:0");
  const listen = new URL(server.url).host;
  await using caches = new AsyncDisposableStack();
  const cacheOf = new Map<string, RemoteCache>();
  for (const { tenant, views } of TENANTS) {
    for (const view of views) await flywheel(server, "view", "create", view);
    const token = await flywheel(
      ...[server, "token", "create"],
      ...["--push", `${tenant}+*`, "--pull", `${tenant}+*`],
    );
    cacheOf.set(tenant, caches.use(openRemoteCache(server.url, token)));
  }
  await flywheel(server, "view", "configure", "acme+small", "--max-size", String(VIEW_LIMIT));
  const cache = (tenant: string): RemoteCache => cacheOf.get(tenant) ?? expect.fail(tenant);
  const scopes = TENANTS.flatMap(({ tenant, views }) =>
    views.flatMap((view) =>
      [view, `${view}/pr`].map((instance) => ({
        ...{ instance, tenant, cache: cache(tenant) },
        stranger: cache(tenant === "acme" ? "other" : "acme"),
      })),
    ),
  );

  const ledger = createLedger(TTL_MS, FORGOTTEN_MS);
  const random = createRandom(SEED);
  const { clients, actionsPerHour, kills } = SCALE;
  const beginMs = clock.nowMs();
  const { nowMs } = clock;
  const endsAtMs = beginMs + DAY_MS;
  const churning = runChurn({
    ...{ scopes, clients, random, ledger, nowMs, endsAtMs, actionsPerHour, restMs: 20 },
  });
  let largest = 0;
  const disrupt = async (): Promise<void> => {
    const chance = random.fork("kills");
    for (let kill = 1; kill <= kills; kill += 1) {
      const atMs = beginMs + ((kill - 0.5 + chance.next() * 0.5) * DAY_MS) / (kills + 1);
      await sleep(Math.max(0, (atMs - nowMs()) / RATE));
      for (const { tenant } of TENANTS) {
        largest = Math.max(largest, tenantBytes(server, tenant));
      }
      const killedAtMs = nowMs();
      server.kill("SIGKILL");
      await server.exited;
      // What was answered before its end.
      ledger.crash(killedAtMs);
      server = await start(listen);
    }
  };
  const [figures] = await Promise.all([churning, disrupt()]);
  try {
    const usage = await usageOf(server, ["acme+main", "acme+small", "other+main"]);
    const told = { rate: RATE, ...figures, largestStoredBytes: largest, usage };
    process.stdout.write(`${JSON.stringify(told)}\n`);
    expectChurn(figures);
    // Small rows that were on their way when there was room count only once they are there.
    expect(largest).toBeLessThanOrEqual(SCALE.maxSize * 1.01);
    expect(largest).toBeGreaterThan(SCALE.maxSize * 0.5);
    // The view's limit holds whenever housekeeping, every 30 seconds, has been by.
    expect(usage["acme+small"]?.storedBytes).toBeLessThanOrEqual(VIEW_LIMIT * 1.2);
  } finally {
    await server.stop();
  }
}, 1_200_000);

function expectChurn(figures: ChurnFigures): void {
  expect(figures.violations).toEqual([]);
  expect(figures.hits).toBeGreaterThan(100);
  expect(figures.evicted).toBeGreaterThan(10);
  expect(figures.strangersRefused).toBeGreaterThan(10);
}

/** What a tenant's data takes, as it is counted against the limit. */
function tenantBytes(server: RunningFlywheel, tenant: string): number {
  const file = path.join(server.dataDirectory, "tenants", tenant, "bazel", "index.sqlite");
  using database = new DatabaseSync(file, { readOnly: true });
  return Number(database.prepare("SELECT stored_bytes AS bytes FROM totals").get()?.["bytes"]);
}

interface Usage {
  readonly blobs: number;
  readonly actions: number;
  readonly storedBytes: number;
}

async function usageOf(
  server: RunningFlywheel,
  views: readonly string[],
): Promise<Record<string, Usage>> {
  const headers = { authorization: `Bearer ${await server.readToken()}` };
  const usages: Record<string, Usage> = {};
  for (const view of views) {
    const url = `${server.url}/_flywheel/v1/views/${encodeURIComponent(view)}/stats`;
    const { bazel }: { bazel: Usage } = JSON.parse(await (await fetch(url, { headers })).text());
    const { blobs, actions, storedBytes } = bazel;
    usages[view] = { blobs, actions, storedBytes };
  }
  return usages;
}
