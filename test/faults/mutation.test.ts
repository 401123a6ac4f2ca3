import { writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { createTemporaryDirectory } from "@glorious/testkit";
import { expect, test } from "vitest";

import { createRandom, type Random } from "../random.ts";
import { checkDataDirectory, checkServer } from "./history/check-server.ts";
import { History } from "./history/history.ts";
import { mutatedEnvironment, type Mutation, MUTATIONS } from "./mutation/mutations.ts";
import { createBench } from "./power-cut.ts";
import { buildRecorder } from "./recorder/build-recorder.ts";
import { SEED } from "./scale.ts";
import { startServer } from "./start-server.ts";
import { runTraffic } from "./traffic/run-traffic.ts";

const built = await buildRecorder();
const MAX_KILLS = 15;

/** One kill of a server without the protection: what the checks say afterwards. */
async function killOnce(mutation: Mutation, random: Random): Promise<readonly string[]> {
  await using temporary = await createTemporaryDirectory("flywheel-mutation-");
  const bench = await createBench(temporary.path, random);
  const disk = path.join(temporary.path, "disk");
  const dataDirectory = path.join(disk, "data");
  const armed = path.join(temporary.path, "armed");
  const env = mutatedEnvironment(mutation);
  const history = new History();
  {
    await using server = await startServer({
      dataDirectory,
      random,
      env,
      recorder: {
        root: disk,
        rules: [`${mutation.rule}${10 + random.below(40)}`],
        whileFile: armed,
      },
    });
    await writeFile(armed, "");
    const stopping = new AbortController();
    const traffic = runTraffic({
      random,
      closures: bench.closures,
      history,
      target: () => server.target,
      clients: 3,
      steps: 1000,
      goesOn: (error) => !/fetch failed|ECONNREFUSED|cannot be reached/i.test(String(error)),
      signal: stopping.signal,
    });
    await Promise.race([server.flywheel.exited, sleep(5000)]);
    stopping.abort();
    await server.crash();
    await traffic;
  }
  await using server = await startServer({
    dataDirectory,
    random,
    ...(mutation.staysRemoved ? { env } : {}),
  });
  const { violations } = await checkServer(server.target, history.expect());
  return [...violations, ...(await checkDataDirectory(dataDirectory))];
}

test.for(MUTATIONS)(
  "without it the kills are noticed: $protection",
  async (mutation, { skip, annotate }) => {
    if ("missing" in built) skip(built.missing);
    const random = createRandom(`${SEED} ${mutation.protection}`);
    for (let kill = 0; kill < MAX_KILLS; kill += 1) {
      const violations = await killOnce(mutation, random.fork(`kill ${kill}`));
      const found = violations.find((violation) => mutation.finds.test(violation));
      if (found !== undefined) {
        await annotate(`kill ${kill + 1}: ${found}`);
        return;
      }
      // Whatever else it finds is not what was removed.
      expect(violations).toEqual([]);
    }
    expect.fail(`${MAX_KILLS} kills found nothing`);
  },
);
