import { rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { createTemporaryDirectory } from "@glorious/testkit";
import { expect, test } from "vitest";

import { createRandom, type Random } from "../random.ts";
import { checkDataDirectory, checkServer, isTokenGood } from "./history/check-server.ts";
import { History } from "./history/history.ts";
import { NAMED_POINTS } from "./named-points.ts";
import { BUSY_HOUSEKEEPING, createBench, freshDirectory } from "./power-cut.ts";
import { buildRecorder } from "./recorder/build-recorder.ts";
import { IS_LONG, SEED } from "./scale.ts";
import { startServer, type TestedServer } from "./start-server.ts";
import { pushClosure } from "./traffic/clients.ts";
import { type NixClient, openNixClient } from "./traffic/nix-client.ts";
import { runTraffic } from "./traffic/run-traffic.ts";

const built = await buildRecorder();
const KILLS = IS_LONG ? 500 : 12;
/** A data directory lives through so many kills; then a new one keeps the checks short. */
const KILLS_PER_DIRECTORY = 20;

/** When the server dies: at a random moment, or at a named point where the recorder can be had. */
interface Plan {
  readonly name: string;
  readonly rules: readonly string[];
  readonly isStart: boolean;
  /** How long clients may go on at most. */
  readonly afterMs: number;
}

function planKill(random: Random): Plan {
  const afterMs = Math.floor(30 * 40 ** random.next());
  if ("missing" in built || random.chance(0.4)) {
    return { name: `after ${afterMs} ms`, rules: [], isStart: false, afterMs };
  }
  const { name, operation, pattern, often, isStart = false } = random.pick(NAMED_POINTS);
  const action = random.pick(
    operation === "write" ? ["before", "middle", "after"] : ["before", "after"],
  );
  const nth = 1 + random.below(often);
  return {
    name: `${action} ${name}, time ${nth}`,
    rules: [`kill-${action}|${operation}|${pattern}|${nth}`],
    isStart,
    afterMs: 1500,
  };
}

test(
  "whenever the server is killed, everything acknowledged is there afterwards and nothing is left over",
  { timeout: IS_LONG ? 3_600_000 : 120_000 },
  async ({ annotate }) => {
    const random = createRandom(`${SEED} kills`);
    const totals = {
      kills: 0,
      starts: 0,
      atPoints: 0,
      pushes: 0,
      copies: 0,
      promises: 0,
      checked: 0,
    };
    await using nix = await openNixClient();
    while (totals.kills < KILLS) {
      await using temporary = await createTemporaryDirectory("flywheel-kills-");
      const bench = await createBench(temporary.path, random.fork(`bench ${totals.kills}`));
      const disk = freshDirectory(bench, "disk");
      const dataDirectory = path.join(disk, "data");
      let history = new History();
      let views = 0;
      let known: { readonly publicKey: string; readonly token: string } | undefined;
      const said: string[] = [];
      const armed = path.join(temporary.path, "armed");
      for (let kill = 0; kill < KILLS_PER_DIRECTORY && totals.kills < KILLS; kill += 1) {
        const plan = planKill(random);
        said.push(plan.name);
        totals.kills += 1;
        const describe = `GLORIOUS_SEED=${SEED}, kill ${totals.kills}: ${said.join("; ")}`;
        if (plan.isStart) await writeFile(armed, "");
        let server: TestedServer;
        try {
          server = await startServer({
            dataDirectory,
            random,
            env: BUSY_HOUSEKEEPING,
            recorder:
              plan.rules.length === 0
                ? undefined
                : { root: disk, rules: plan.rules, whileFile: armed },
          });
        } catch (error) {
          expect(String(error), describe).toMatch(/ended with 137/);
          totals.atPoints += 1;
          totals.starts += 1;
          continue;
        } finally {
          await rm(armed, { force: true });
        }
        await using running = server;
        const { target } = running;
        const { violations, present } = await checkServer(target, history.expect());
        totals.checked += present.size;
        const leftovers = await checkDataDirectory(dataDirectory);
        expect([...violations, ...leftovers], describe).toEqual([]);
        if (known !== undefined) {
          expect(target.publicKey, describe).toBe(known.publicKey);
          expect(await isTokenGood({ ...target, token: known.token }), describe).toBe(true);
        }
        // What was seen once must stay, acknowledged or not.
        history = history.settle(history.eventCount, (hash) => present.has(hash));
        known ??= { publicKey: target.publicKey, token: target.token };
        const isKilled = watch(running);
        await writeFile(armed, "");
        const before = history.acknowledged();
        const copyWithNix = async (client: NixClient): Promise<void> => {
          totals.copies += 1;
          // It is killed in the middle, mostly.
          await client.copy(target, await client.build(), history).catch(() => {});
        };
        const stopping = new AbortController();
        const traffic = runTraffic({
          random: random.fork(`traffic ${totals.kills}`),
          closures: bench.closures,
          history,
          target: () => target,
          clients: 3,
          steps: 1000,
          viewName: () => `k${totals.kills}-${(views += 1)}`,
          goesOn: () => !isKilled(),
          signal: stopping.signal,
        });
        const copy = nix !== undefined && random.chance(0.2) ? copyWithNix(nix) : undefined;
        await Promise.race([running.flywheel.exited, sleep(plan.afterMs)]);
        if (isKilled()) totals.atPoints += 1;
        await running.crash();
        await rm(armed);
        stopping.abort();
        totals.pushes += (await traffic).pushes;
        await copy;
        totals.promises += history.acknowledged() - before;
      }
      const end = await startServer({ dataDirectory, random });
      await using running = end;
      const found = await checkServer(running.target, history.expect());
      const leftovers = await checkDataDirectory(dataDirectory);
      expect([...found.violations, ...leftovers], said.join("; ")).toEqual([]);
      history = history.settle(history.eventCount, (hash) => found.present.has(hash));
      await pushClosure(running.target, await bench.closures.createClosure(), history);
      expect((await checkServer(running.target, history.expect())).violations).toEqual([]);
    }
    await annotate(
      `${totals.kills} kills (${totals.atPoints} at named points, ${totals.starts} while starting), ` +
        `${totals.pushes} pushes, ${totals.copies} of nix copy, ${totals.promises} acknowledged writes, ` +
        `${totals.checked} paths read back whole`,
    );
  },
);

function watch({ flywheel }: TestedServer): () => boolean {
  let isKilled = false;
  void flywheel.exited.then(() => (isKilled = true));
  return () => isKilled;
}
