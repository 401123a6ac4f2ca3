import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { createTemporaryDirectory, type ConnectionFault, startFaultProxy } from "@glorious/testkit";
import { expect, test } from "vitest";

import { createRandom, type Random } from "../random.ts";
import { checkDataDirectory, checkServer } from "./history/check-server.ts";
import { History } from "./history/history.ts";
import { BUSY_HOUSEKEEPING, createBench, freshDirectory } from "./power-cut.ts";
import { IS_LONG, SEED } from "./scale.ts";
import { startServer, type TestedServer } from "./start-server.ts";
import { pushClosure, type Target } from "./traffic/clients.ts";
import { runTraffic } from "./traffic/run-traffic.ts";

function planFault(random: Random): ConnectionFault {
  const slow: ConnectionFault = {
    ...(random.chance(0.3) ? { latencyMs: random.below(15) } : {}),
    ...(random.chance(0.2) ? { bytesPerSecond: 200_000 + random.below(2_000_000) } : {}),
  };
  if (random.chance(0.4)) return slow;
  return {
    ...slow,
    after: {
      // From the first header to the middle of a large NAR.
      bytes: Math.floor(10 * 30_000 ** random.next()),
      towards: random.pick(["server", "client"]),
      kind: random.pick(["reset", "truncate", "black-hole"]),
    },
  };
}

test(
  "whatever the network does, an acknowledged push is complete and a failed one is not half there",
  { timeout: IS_LONG ? 1_800_000 : 120_000 },
  async ({ annotate }) => {
    const random = createRandom(`${SEED} network`);
    await using temporary = await createTemporaryDirectory("flywheel-network-");
    const bench = await createBench(temporary.path, random);
    const dataDirectory = path.join(freshDirectory(bench, "disk"), "data");
    await using server = await startServer({
      dataDirectory,
      random,
      env: { ...BUSY_HOUSEKEEPING, FLYWHEEL_LIMITS_IDLE_TIMEOUT: "1s" },
    });
    const { target } = server;
    const plans = random.fork("plans");
    await using proxy = await startFaultProxy(
      () => Number(new URL(target.url).port),
      () => planFault(plans),
    );
    const throughProxy: Target = { ...target, url: `http://127.0.0.1:${proxy.port}` };
    let history = new History();
    const totals = { pushes: 0, failed: 0 };
    for (let round = 0; round < (IS_LONG ? 60 : 1); round += 1) {
      const { pushes, errors } = await runTraffic({
        random: random.fork(`round ${round}`),
        closures: bench.closures,
        history,
        target: () => throughProxy,
        clients: 8,
        steps: 6,
        idleTimeoutMs: 1500,
        retry: { maxAttempts: 2 - (round % 2), baseDelayMs: 20 },
      });
      totals.pushes += pushes;
      totals.failed += errors.length;
      await waitUntilIdle(dataDirectory);
      const found = await checkServer(target, history.expect());
      const leftovers = await checkDataDirectory(dataDirectory);
      expect([...found.violations, ...leftovers], `GLORIOUS_SEED=${SEED}, round ${round}`).toEqual(
        [],
      );
      history = history.settle(history.eventCount, (hash) => found.present.has(hash));
    }
    await pushClosure(target, await bench.closures.createClosure(), history);
    expect((await checkServer(target, history.expect())).violations).toEqual([]);
    expect([...proxy.faults.keys()].sort()).toEqual(["black-hole", "reset", "truncate"]);
    const faults = [...proxy.faults].map(([name, count]) => `${count} ${name}`).join(", ");
    await annotate(`${totals.pushes} pushes, ${totals.failed} failed steps, faults: ${faults}`);
  },
);

/** Uploads whose client went into a black hole end when the server notices: after its idle timeout. */
async function waitUntilIdle(dataDirectory: string): Promise<void> {
  const deadline = performance.now() + 60_000;
  while ((await checkDataDirectory(dataDirectory)).length > 0 && performance.now() < deadline) {
    await sleep(100);
  }
}

test("a patient client's push outlives restarts of the server", async () => {
  const random = createRandom(`${SEED} patience`);
  await using temporary = await createTemporaryDirectory("flywheel-patience-");
  const bench = await createBench(temporary.path, random);
  const dataDirectory = path.join(freshDirectory(bench, "disk"), "data");
  const history = new History();
  const start = (listen?: string): Promise<TestedServer> =>
    startServer({ dataDirectory, random, ...(listen === undefined ? {} : { listen }) });
  let server = await start();
  const { target } = server;
  const listen = new URL(target.url).host;
  const traffic = runTraffic({
    random,
    closures: bench.closures,
    history,
    target: () => target,
    clients: 2,
    steps: 12,
    retry: { maxAttempts: 12, baseDelayMs: 100, maxDelayMs: 500 },
  });
  for (let restarts = 0; restarts < 3; restarts += 1) {
    await sleep(150 + random.below(200));
    await server.crash();
    await sleep(100);
    server = await start(listen);
  }
  await using last = server;
  const { errors } = await traffic;
  const { violations } = await checkServer(last.target, history.expect());
  expect(violations).toEqual([]);
  // Attic's client and the management calls do not repeat themselves; ours does.
  expect(errors.filter((error) => String(error).includes("upload of"))).toEqual([]);
});
