import { existsSync } from "node:fs";

import { startFaultProxy } from "@glorious/testkit";

import { type PullJob, pullDirectly, pullThroughAgent } from "../agent/agent-job.ts";
import { alternate, type Series } from "../alternate.ts";
import { describeMachine } from "../machine.ts";
import { openCorpus } from "../nix/corpus.ts";
import { writeSection } from "../report-section.ts";
import { atMost, formatTable, type Goal, mib, type Row } from "../report.ts";
import { openUpstreamWorld, type UpstreamWorld } from "./upstream-world.ts";

export interface UpstreamBenchOptions {
  readonly quick: boolean;
  readonly rounds: number | undefined;
}

const MEMORY_DISK = "/dev/shm";
/** In each direction. */
const LATENCY_MS = 25;
/** With the top: 400 paths. */
const SMALL = { count: 399, maxKiB: 8 };
const LARGE = { count: 120, maxKiB: 12_288 };
const LARGE_QUICK = { count: 60, maxKiB: 12_288 };
const TUNED = { "http-connections": "128", "max-substitution-jobs": "64" };

const say = (line: string): void => void process.stderr.write(`bench: ${line}\n`);

/** Measures what reading through an upstream costs and brings, and prints ratios. */
export async function benchUpstream(options: UpstreamBenchOptions): Promise<void> {
  const rounds = options.rounds ?? (options.quick ? 1 : 3);
  const memoryDisk = existsSync(MEMORY_DISK);
  if (memoryDisk) process.env["TMPDIR"] = MEMORY_DISK;
  await using world = await openUpstreamWorld(say);
  const rows = [
    ...(await measureFetches(world, rounds, options.quick)),
    ...(await measureFar(world, rounds)),
  ];
  const text = `Measured on ${describeMachine()}, with Nix ${world.nix.version}; the upstream is nginx with a signed static cache in zstd. Nix, agent, proxies, server and nginx share the cores${memoryDisk ? ", and all stores lie in memory" : ""}. Each figure is the best of ${rounds}, taken in turn.\n${formatTable(rows, [])}`;
  process.stdout.write(`${text}\n`);
  if (options.quick) return;
  await writeSection("Upstreams", `Written by \`pnpm bench upstream\`.\n\n${text}`);
}

/** A closure through us for the first time and the second, against the upstream and against what was pushed. */
async function measureFetches(
  world: UpstreamWorld,
  rounds: number,
  isQuick: boolean,
): Promise<Row[]> {
  const { server, nix, upstreamUrl, upstreamKey } = world;
  say("a closure for the first time and the second");
  const corpus = await openCorpus(isQuick ? LARGE_QUICK : LARGE, "1", true);
  await world.publish([corpus.top]);
  await world.flywheel([
    "push",
    corpus.top,
    "--view",
    "main",
    "--ignore-upstream-filter",
    "--json",
  ]);
  const viewKey = await world.createView("first");
  const job: PullJob = {
    nix,
    server,
    address: server.url,
    top: corpus.top,
    by: "realise",
    trustedKeys: [upstreamKey, viewKey],
  };
  const pull = async (from: string): Promise<number> =>
    (await pullDirectly({ ...job, from: [from] })).seconds;
  const fetches = (times: string) =>
    new Map([
      [`${times} upstream`, () => pull(upstreamUrl)],
      [
        `${times} first`,
        async () => {
          await world.readThrough("first", `${upstreamUrl}/`);
          return pull(`${server.url}/first`);
        },
      ],
      [`${times} second`, () => pull(`${server.url}/first`)],
      [`${times} pushed`, () => pull(`${server.url}/main`)],
    ]);
  const near = await alternate(fetches("near"), { rounds, best: "lowest" });
  const group = `${corpus.paths.length} paths with ${mib(corpus.narBytes)}, on loopback, seconds`;
  const of = (name: string): Series => required(near.get(`near ${name}`));
  return [
    compare(
      group,
      "first time through us, against the upstream itself",
      of("first"),
      of("upstream"),
      1.15,
    ),
    compare(
      group,
      "second time through us, against what was pushed to us",
      of("second"),
      of("pushed"),
      1,
    ),
  ];
}

/** 400 paths of which nine tenths are upstream's, cold in the client and warm in us. */
async function measureFar(world: UpstreamWorld, rounds: number): Promise<Row[]> {
  const { server, nix, upstreamUrl, upstreamKey } = world;
  say("through the agent from far away");
  const corpus = await openCorpus(SMALL, "2", true);
  // What is built on the others is what a team builds itself.
  const border = Math.round(corpus.paths.length * 0.9);
  await world.publish(corpus.paths.slice(0, border));
  const keys = [await world.createView("second"), await world.createView("second-own")];
  await world.readThrough("second", `${upstreamUrl}/`);
  await world.flywheel(["push", corpus.top, "--view", "second", "--json"]);
  await world.flywheel(["warm", corpus.top, "--view", "second", "--json"]);
  await using ours = await startFaultProxy(
    () => Number(new URL(server.url).port),
    () => ({ latencyMs: LATENCY_MS }),
  );
  await using theirs = await startFaultProxy(
    () => Number(new URL(upstreamUrl).port),
    () => ({ latencyMs: LATENCY_MS }),
  );
  const address = `http://127.0.0.1:${ours.port}`;
  const job: PullJob = {
    nix,
    server,
    address,
    view: "second",
    top: corpus.top,
    by: "realise",
    trustedKeys: [upstreamKey, ...keys],
  };
  const both = [`${address}/second-own`, `http://127.0.0.1:${theirs.port}`];
  // A view that has what was pushed, and no upstream.
  const upper = corpus.paths.slice(border);
  await world.flywheel(["push", ...upper, "--no-closure", "--view", "second-own", "--json"]);
  const series = await alternate(
    new Map([
      ["direct", async () => (await pullDirectly({ ...job, from: both })).seconds],
      ["tuned", async () => (await pullDirectly({ ...job, from: both, settings: TUNED })).seconds],
      ["agent", async () => (await pullThroughAgent(job)).seconds],
    ]),
    { rounds, best: "lowest" },
  );
  const of = (name: string): Series => required(series.get(name));
  const group = `400 paths, nine tenths upstream's and warm in us, ${2 * LATENCY_MS} ms of round-trip time, seconds`;
  return [
    faster(
      group,
      "through the agent, against Nix at its defaults that asks both caches",
      of("agent"),
      of("direct"),
      4,
    ),
    faster(
      group,
      "through the agent, against Nix tuned that asks both caches",
      of("agent"),
      of("tuned"),
      2,
    ),
  ];
}

function compare(group: string, what: string, ours: Series, reference: Series, most: number): Row {
  const ratio = ours.best / reference.best;
  return row(group, what, ours, reference, atMost(most, ratio));
}

function faster(group: string, what: string, ours: Series, reference: Series, times: number): Row {
  const measured = reference.best / ours.best;
  const goal = { text: `≥ ${times} × faster (${measured.toFixed(1)} ×)`, met: measured >= times };
  return row(group, what, ours, reference, goal);
}

function row(group: string, what: string, ours: Series, reference: Series, goal: Goal): Row {
  return {
    group,
    what,
    ours: ours.best.toFixed(2),
    reference: reference.best.toFixed(2),
    ratio: ours.best / reference.best,
    goal,
    peers: {},
    values: { ours: ours.values, reference: reference.values },
  };
}

function required(series: Series | undefined): Series {
  if (series === undefined) throw new Error("It was not measured");
  return series;
}
