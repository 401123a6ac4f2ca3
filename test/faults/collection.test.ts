import { mkdir } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { createAdminClient } from "@glorious/cache-client";
import { createTemporaryDirectory } from "@glorious/testkit";
import { expect, test } from "vitest";

import { createRandom, type Random } from "../random.ts";
import { checkDataDirectory, checkPath, checkServer, Violation } from "./history/check-server.ts";
import { History } from "./history/history.ts";
import { KeptPaths } from "./history/kept-paths.ts";
import { IS_LONG, SEED } from "./scale.ts";
import { startServer, type TestedServer } from "./start-server.ts";
import { pushClosure } from "./traffic/clients.ts";
import { type ClosureFactory, createClosureFactory } from "./traffic/closures.ts";

const SESSIONS = IS_LONG ? 60 : 5;
const RETENTION_MS = 1000;
const NAR_GRACE_MS = 2000;

/** Settings under which nearly everything goes while it is being pushed, read and checked. */
const COLLECTING: Readonly<Record<string, string>> = {
  FLYWHEEL_RETENTION_DEFAULT: `${RETENTION_MS}ms`,
  FLYWHEEL_RETENTION_ACCESS_RESOLUTION: "50ms",
  FLYWHEEL_RETENTION_NAR_GRACE: `${NAR_GRACE_MS}ms`,
  FLYWHEEL_RETENTION_OBJECT_GRACE: "500ms",
  FLYWHEEL_RETENTION_SWEEP_INTERVAL: "100ms",
  FLYWHEEL_RETENTION_COLLECT_INTERVAL: "100ms",
  FLYWHEEL_SCRUB_BYTES_PER_SECOND: "1 GiB",
};

/** What clients share. */
interface Session {
  readonly server: TestedServer;
  readonly closures: ClosureFactory;
  readonly history: History;
  readonly kept: KeptPaths;
  readonly violations: string[];
  readonly totals: Record<"pushes" | "pins" | "reads" | "misses" | "collected" | "scrubs", number>;
}

async function push({ server, ...session }: Session, random: Random): Promise<void> {
  const { closures, history, kept, totals } = session;
  const isOld = random.chance(0.2) && kept.known.length > 0;
  // An old one, perhaps while it is being collected.
  const closure = isOld ? kept.closureOf(random.pick(kept.known)) : await closures.createClosure();
  const beganAtMs = Date.now();
  // Attic's way promises no closure: what a path refers to may go between two of its requests.
  await pushClosure(server.target, closure, history);
  kept.notePush(closure, beganAtMs);
  totals.pushes += 1;
}

async function pin({ server, kept, totals }: Session, random: Random): Promise<void> {
  if (kept.known.length === 0) return;
  const { url, token, view } = server.target;
  await using admin = createAdminClient({ server: url, token });
  const chosen = random.pick(kept.known);
  const name = `pin-${random.below(3)}`;
  await kept.pin(name, chosen, () => admin.putPin(view, name, chosen.storePath.path));
  totals.pins += 1;
}

/** Reads a path as Nix does: its narinfo, then the NAR that this names. */
async function read({ server, kept, ...session }: Session, random: Random): Promise<void> {
  if (kept.known.length === 0) return;
  const info = random.pick(kept.known);
  const { hash, baseName } = info.storePath;
  const [beganAtMs, keptUntilMs] = [Date.now(), kept.keptUntilMs(hash)];
  try {
    // Nix remembers narinfos, and asks for NARs when it gets round to them.
    const pauseMs = random.chance(0.5) ? random.below(NAR_GRACE_MS) : 0;
    const isPresent = await checkPath(server.target, info, () => sleep(pauseMs));
    session.totals[isPresent ? "reads" : "misses"] += 1;
    // A pin may have moved meanwhile.
    const untilMs = Math.min(keptUntilMs, kept.keptUntilMs(hash));
    if (!isPresent && Date.now() < untilMs) session.violations.push(`${baseName} went too early`);
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    // On a busy machine the NAR may be asked for after its grace.
    if (Date.now() - beganAtMs < NAR_GRACE_MS) {
      session.violations.push(`${baseName} is read while others collect: ${error.message}`);
    }
  }
}

async function collectAndScrub(
  { server, totals, violations }: Session,
  random: Random,
): Promise<void> {
  const { url, token, view } = server.target;
  await using admin = createAdminClient({ server: url, token });
  if (random.chance(0.5)) {
    totals.collected += (await admin.collectView(view)).deleted;
    return;
  }
  const { state, bad } = await admin.scrub({ waitSeconds: 1 });
  if (state === "done") totals.scrubs += 1;
  // What is collected while it is looked at is not damaged.
  violations.push(...bad.map(({ fileHash, reason }) => `Scrub says of ${fileHash}: ${reason}`));
}

/** Clients that do all of it at once until the server is gone. */
async function keepBusy(session: Session, random: Random): Promise<void> {
  const over = new AbortController();
  void session.server.flywheel.exited.then(() => over.abort());
  const work = async (step: typeof push, name: string): Promise<void> => {
    const own = random.fork(name);
    while (!over.signal.aborted) {
      // The server is killed in the middle, and a path to be pinned or referred to may be gone.
      await step(session, own).catch(() => {});
      // Without anything to do a step takes no time at all.
      await sleep(1);
    }
  };
  const readers = [1, 2, 3, 4, 5, 6].map((reader) => work(read, `reader ${reader}`));
  const pushers = [1, 2].map((pusher) => work(push, `pusher ${pusher}`));
  await Promise.all([
    ...readers,
    ...pushers,
    // One only, so that pins move in a known order.
    work(async (all, own) => {
      await pin(all, own);
      await sleep(50);
    }, "pinner"),
    work(collectAndScrub, "housekeeper"),
  ]);
}

test(
  "while paths are pushed, read, collected and scrubbed, and the server is killed, no narinfo points at nothing and what is in use or pinned stays",
  { timeout: IS_LONG ? 1_200_000 : 120_000 },
  async ({ annotate }) => {
    const random = createRandom(`${SEED} collections`);
    await using temporary = await createTemporaryDirectory("flywheel-collections-");
    const folder = path.join(temporary.path, "closures");
    await mkdir(folder);
    const closures = createClosureFactory(folder, random.fork("closures"));
    const dataDirectory = path.join(temporary.path, "data");
    const kept = new KeptPaths(RETENTION_MS);
    const totals = { pushes: 0, pins: 0, reads: 0, misses: 0, collected: 0, scrubs: 0 };
    let checked = 0;
    let history = new History();
    for (let number = 1; number <= SESSIONS; number += 1) {
      const violations: string[] = [];
      let killedAtMs: number;
      {
        await using server = await startServer({ dataDirectory, random, env: COLLECTING });
        const session = { server, closures, history, kept, violations, totals };
        const busy = keepBusy(session, random.fork(`session ${number}`));
        await sleep(500 + random.below(4000));
        killedAtMs = Date.now();
        await server.crash();
        await busy;
      }
      // This one collects nothing, so that nothing moves while it is looked at.
      await using server = await startServer({ dataDirectory, random });
      const { paths } = history.expect();
      const found = await checkServer(server.target, {
        paths: paths.map((expectation) => {
          const { hash } = expectation.path.storePath;
          return { ...expectation, mayBeAbsent: kept.keptUntilMs(hash) < killedAtMs };
        }),
        // Of a closure that is no longer needed, parts may be needed by others.
        groups: [],
        revokedTokens: [],
        views: [],
      });
      checked += found.present.size;
      violations.push(...found.violations, ...(await checkDataDirectory(dataDirectory)));
      expect(violations, `GLORIOUS_SEED=${SEED}, session ${number}`).toEqual([]);
      history = history.settle(history.eventCount, (hash) => found.present.has(hash));
      kept.noteCrash();
    }
    await annotate(
      `${SESSIONS} kills, ${totals.pushes} pushes, ${totals.pins} pins, ` +
        `${totals.reads} paths read whole and ${totals.misses} missed meanwhile, ` +
        `${totals.collected} collected, ${totals.scrubs} scrubs, ${checked} paths checked afterwards`,
    );
    expect(Math.min(totals.reads, totals.collected)).toBeGreaterThan(0);
  },
);
