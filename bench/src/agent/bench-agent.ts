import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

import {
  findNixVersions,
  type RunningFlywheel,
  startFaultProxy,
  startFlywheel,
} from "@glorious/testkit";

import { alternate, type Series } from "../alternate.ts";
import { output } from "../command.ts";
import { describeMachine } from "../machine.ts";
import { type Corpus, openCorpus } from "../nix/corpus.ts";
import { writeSection } from "../report-section.ts";
import { atMost, formatTable, type Goal, mib, type Row } from "../report.ts";
import { type PullJob, pullDirectly, pullThroughAgent } from "./agent-job.ts";

export const AGENT_STAGES = ["latency", "copy", "overhead"] as const;
export type AgentStage = (typeof AGENT_STAGES)[number];

export interface AgentBenchOptions {
  readonly quick: boolean;
  readonly stages: readonly AgentStage[];
  readonly rounds: number | undefined;
}

const MEMORY_DISK = "/dev/shm";
/** In each direction. */
const LATENCY_MS = 25;
/** With the top: 400 paths. */
const SMALL = { count: 399, maxKiB: 8 };
const LARGE = { count: 320, maxKiB: 24_576 };
const LARGE_QUICK = { count: 60, maxKiB: 12_288 };
const TUNED = { "http-connections": "128", "max-substitution-jobs": "64" };
const MAX_MEMORY_BYTES = 150 * 2 ** 20;
const GIGABIT = 125_000_000;
const GROUP = `400 small paths with ${2 * LATENCY_MS} ms of added round-trip time, seconds`;

/** What the figures say; to be looked at again when they are taken again. */
const READING = `The machine was reserved for the measurement, but other processes could not be kept off it altogether.

- The far rows are what the agent is for. A closure comes in one round trip, and its NARs in about one more, where Nix makes
  one for each level of narinfos and for each 16 NARs; \`nix copy\` makes one for each path.
- On loopback Nix and the server keep both cores busy, and what the agent passes on is taken from them. That row still misses its goal;
  it is the bound for a runner that has no core to spare. It was 1.68 while each read of a socket had memory of its own. Measured apart,
  800 MiB from a static server to a client that throws them away took 1.4 s of a core then, 44 % of it collecting that memory, and
  take 0.4 s now: 0.25 s in the kernel, which copies out of one socket and into the other, and for which Node has no shorter way.
  In the profile of that, start-up included, writing to the socket is 45 %, the collector 6 %, and all that the agent itself does
  with the bytes less than 5 %. Over a link of 1 Gbit/s, which leaves time for this, the agent costs 2 to 4 %.
- 400 small paths on a disk that others use took Nix 4 to 5 s on the busy machine, without any delay: that is why the stores lie in memory.`;

const say = (line: string): void => void process.stderr.write(`bench: ${line}\n`);

/** Measures a job's Nix with and without its agent, and prints ratios. */
export async function benchAgent(options: AgentBenchOptions): Promise<void> {
  const nix = findNixVersions().at(-1);
  if (nix === undefined) throw new Error("There is no Nix here");
  const rounds = options.rounds ?? (options.quick ? 1 : 5);
  // A disk that others use takes longer for 400 small paths than any network here.
  const memoryDisk = existsSync(MEMORY_DISK);
  if (memoryDisk) process.env["TMPDIR"] = MEMORY_DISK;
  const stages = new Set(options.stages);
  await using server = await startFlywheel({ env: { FLYWHEEL_LOG_LEVEL: "error" } });
  const common = { nix, server };
  const memory: number[] = [];
  const rows: Row[] = [];

  if (stages.has("latency") || stages.has("copy")) {
    const corpus = await pushed(server, await openCorpus(SMALL, "1", true));
    await using proxy = await startFaultProxy(
      () => Number(new URL(server.url).port),
      () => ({ latencyMs: LATENCY_MS }),
    );
    const far: PullJob = {
      ...common,
      address: `http://127.0.0.1:${proxy.port}`,
      top: corpus.top,
      by: "realise",
    };
    if (stages.has("latency")) rows.push(...(await measureLatency(far, rounds, memory)));
    if (stages.has("copy")) rows.push(...(await measureCopy(far, rounds, memory)));
  }
  if (stages.has("overhead")) {
    const corpus = await pushed(
      server,
      await openCorpus(options.quick ? LARGE_QUICK : LARGE, "1", true),
    );
    const job: PullJob = { ...common, address: server.url, top: corpus.top, by: "realise" };
    rows.push(
      await measureOverhead(job, {
        corpus,
        rounds,
        memory,
        what: "loopback, all on the same cores",
      }),
    );
    await using proxy = await startFaultProxy(
      () => Number(new URL(server.url).port),
      () => ({}),
      { bytesPerSecond: GIGABIT },
    );
    const linked = { ...job, address: `http://127.0.0.1:${proxy.port}` };
    rows.push(
      await measureOverhead(linked, {
        corpus,
        rounds: Math.min(rounds, 2),
        memory,
        what: "a link of 1 Gbit/s",
      }),
    );
  }
  const peak = Math.max(...memory);
  rows.push({
    group: "The agent itself",
    what: "resident memory, the most in any of these pulls",
    ours: mib(peak),
    reference: "",
    ratio: undefined,
    goal: { text: `≤ ${mib(MAX_MEMORY_BYTES)}`, met: peak <= MAX_MEMORY_BYTES },
    peers: {},
  });
  const text = `Measured on ${describeMachine()}, with Nix ${nix.version}; Nix, agent, proxy and server share the cores${memoryDisk ? ", and all stores lie in memory" : ""}. The agent is set up for each pull anew, by the command that actions bring, and knows nothing before Nix asks. Each figure is the best of ${rounds} (of 2 for \`nix copy\` and for 1 Gbit/s), taken in turn; the reference is the same Nix against the server itself.\n${formatTable(rows, [])}`;
  process.stdout.write(`${text}\n`);
  if (!options.quick) {
    await writeSection(
      "The agent beside a job",
      `Written by \`pnpm bench agent\`.\n\n${text}\n\n${READING}`,
    );
  }
}

async function measureLatency(job: PullJob, rounds: number, memory: number[]): Promise<Row[]> {
  say("nix-store -r from far away");
  const near: PullJob = { ...job, address: job.server.url };
  const series = await alternate(
    new Map([
      ["direct", async () => (await pullDirectly(job)).seconds],
      ["tuned", async () => (await pullDirectly({ ...job, settings: TUNED })).seconds],
      ["agent", () => throughAgent(job, memory)],
      ["agent, tuned", () => throughAgent({ ...job, settings: TUNED }, memory)],
      ["near", async () => (await pullDirectly(near)).seconds],
    ]),
    { rounds, best: "lowest" },
  );
  const of = (name: string): Series => required(series.get(name));
  const row = (what: string, ours: Series, reference: Series, goal?: number): Row =>
    compare({
      group: GROUP,
      what,
      ours,
      reference,
      goal: goal === undefined ? undefined : timesFaster(goal, ours, reference),
    });
  return [
    row(
      "through the agent, Nix at its defaults, against Nix at its defaults",
      of("agent"),
      of("direct"),
      4,
    ),
    row(
      "through the agent, Nix at its defaults, against Nix tuned (http-connections 128, max-substitution-jobs 64)",
      of("agent"),
      of("tuned"),
      2,
    ),
    row("through the agent, Nix tuned, against Nix tuned", of("agent, tuned"), of("tuned")),
    row(
      "for comparison: without any delay and without an agent, against Nix at its defaults",
      of("near"),
      of("direct"),
    ),
  ];
}

async function measureCopy(job: PullJob, rounds: number, memory: number[]): Promise<Row[]> {
  say("nix copy --from from far away");
  const copy: PullJob = { ...job, by: "copy" };
  // Half a minute without the agent.
  const series = await alternate(
    new Map([
      ["direct", async () => (await pullDirectly(copy)).seconds],
      ["agent", () => throughAgent(copy, memory)],
    ]),
    { rounds: Math.min(rounds, 2), best: "lowest", warmUp: false },
  );
  return [
    compare({
      group: GROUP,
      what: "`nix copy --from` through the agent, against `nix copy --from`",
      ours: required(series.get("agent")),
      reference: required(series.get("direct")),
    }),
  ];
}

async function measureOverhead(
  job: PullJob,
  options: {
    readonly corpus: Corpus;
    readonly rounds: number;
    readonly memory: number[];
    readonly what: string;
  },
): Promise<Row> {
  const { corpus, rounds, memory, what } = options;
  say(`a large closure over ${what}`);
  const series = await alternate(
    new Map([
      ["direct", async () => (await pullDirectly(job)).seconds],
      ["agent", () => throughAgent(job, memory)],
    ]),
    { rounds, best: "lowest" },
  );
  const [ours, reference] = [required(series.get("agent")), required(series.get("direct"))];
  return compare({
    group: `${corpus.paths.length} paths with ${mib(corpus.narBytes)} over a fast link, no added delay, seconds`,
    what: `through the agent: ${what}`,
    ours,
    reference,
    goal: atMost(1.1, ours.best / reference.best),
  });
}

async function throughAgent(job: PullJob, memory: number[]): Promise<number> {
  const { seconds, peakMemoryBytes } = await pullThroughAgent(job);
  memory.push(peakMemoryBytes);
  return seconds;
}

function compare(options: {
  readonly group: string;
  readonly what: string;
  readonly ours: Series;
  readonly reference: Series;
  readonly goal?: Goal | undefined;
}): Row {
  const { ours, reference, ...rest } = options;
  return {
    ...rest,
    ours: ours.best.toFixed(2),
    reference: reference.best.toFixed(2),
    ratio: ours.best / reference.best,
    peers: {},
    values: { ours: ours.values, reference: reference.values },
  };
}

function timesFaster(times: number, ours: Series, reference: Series): Goal {
  const measured = reference.best / ours.best;
  return { text: `≥ ${times} × faster (${measured.toFixed(1)} ×)`, met: measured >= times };
}

function required(series: Series | undefined): Series {
  if (series === undefined) throw new Error("It was not measured");
  return series;
}

async function pushed(server: RunningFlywheel, corpus: Corpus): Promise<Corpus> {
  const launcher = fileURLToPath(new URL("../../../bin/flywheel", import.meta.url));
  const view = ["--server", server.url, "--view", "main", "--token-file", server.tokenFile];
  await output(launcher, ["push", ...view, "--json", corpus.top]);
  return corpus;
}
