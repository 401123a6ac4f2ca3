import { startFaultProxy, startIdentityWorld } from "@glorious/testkit";

import { describeMachine } from "../machine.ts";
import { writeSection } from "../report-section.ts";
import { atMost, formatTable, type Row } from "../report.ts";
import { type ComponentJobOptions, runComponentJob } from "./component-job.ts";
import {
  createHookedMachine,
  type HookedJob,
  type HookedJobOptions,
  TENANTS,
} from "./hooked-machine.ts";

export interface HooksBenchOptions {
  readonly quick: boolean;
  readonly rounds: number | undefined;
}

const WARM_MS = 300;
const BLACK_HOLE_MS = 1000;
const COMPONENT_MS = 1000;
const COMPONENT = "The `before_script` of GitLab's component for Nix, milliseconds";
const START = "A job's start, milliseconds";

/** What the figures say; to be looked at again when they are taken again. */
const READING = `The start of a job is two starts of Node, the set-up's and the agent's, side by side, with what Nix and Bazel are asked meanwhile: more
cores make it shorter, a busy machine longer. Server and forge are on the same machine; a real job adds two round trips to its server
and one to its forge. A server that does not answer is waited for 0.7 seconds (\`FLYWHEEL_SERVER_WAIT\`), then the agent goes on asking; a client that does not begin to come within 0.9 seconds, on a busy machine 2, is not waited for.`;

const say = (line: string): void => void process.stderr.write(`bench: ${line}\n`);

/** Measures what a runner's hooks add to a job. */
export async function benchHooks({
  quick,
  rounds = quick ? 3 : 15,
}: HooksBenchOptions): Promise<void> {
  await using world = await startIdentityWorld({
    tenants: TENANTS,
    env: { FLYWHEEL_LOG_LEVEL: "error" },
  });
  await using hole = await startFaultProxy(
    () => 9,
    () => ({ after: { bytes: 0, towards: "server", kind: "black-hole" } }),
  );
  await using machine = await createHookedMachine();
  const repeat = async <Job extends Pick<HookedJob, "said">>(
    what: string,
    run: () => Promise<Job>,
    expected: RegExp,
  ): Promise<Job[]> => {
    say(what);
    const jobs: Job[] = [];
    // The first warms up.
    for (let round = -1; round < rounds; round += 1) {
      const job = await run();
      if (!expected.test(job.said)) throw new Error(`${what}: ${job.said}`);
      if (round >= 0) jobs.push(job);
    }
    return jobs;
  };
  const measure = (
    what: string,
    options: Omit<HookedJobOptions, "world">,
    expected: RegExp,
  ): Promise<HookedJob[]> => repeat(what, () => machine.runJob({ world, ...options }), expected);
  const component = async (
    what: string,
    options: Omit<ComponentJobOptions, "world">,
    expected: RegExp,
    limitMs?: number,
  ): Promise<Row> => {
    const run = () => runComponentJob(machine, { world, ...options });
    const jobs = await repeat(`component, ${what}`, run, expected);
    return toRow(
      COMPONENT,
      what,
      jobs.map(({ startMs }) => startMs),
      limitMs,
    );
  };
  const up = world.server.url;
  const nowhere = `http://127.0.0.1:${hole.port}`;
  const READY = /^ready: /m;
  const github = await measure("GitHub", { forge: "github", server: up }, READY);
  const gitlab = await measure("GitLab", { forge: "gitlab", server: up }, READY);
  const first = await measure("the first", { forge: "github", server: up, isFirst: true }, READY);
  const down = await measure(
    "down",
    { forge: "github", server: "http://127.0.0.1:1" },
    /^(degraded|pending): /m,
  );
  const silent = await measure("a black hole", { forge: "github", server: nowhere }, /^pending: /m);
  const [closed, taken] = ["http://127.0.0.1:1", nowhere];
  const components = [
    await component(
      "`flywheel` is in the image",
      { server: up, hasCommand: true },
      READY,
      COMPONENT_MS,
    ),
    await component(
      "Node alone, the client comes from the server",
      { server: up, hasCommand: false },
      READY,
      COMPONENT_MS,
    ),
    await component(
      "`flywheel`, the server is down",
      { server: closed, hasCommand: true },
      /^(degraded|pending): /m,
      COMPONENT_MS,
    ),
    await component(
      "Node alone, the server is down",
      { server: closed, hasCommand: false },
      /the job goes on/,
      COMPONENT_MS,
    ),
    await component(
      "`flywheel`, the server never answers",
      { server: taken, hasCommand: true },
      /^pending: /m,
      COMPONENT_MS,
    ),
    await component(
      "Node alone, the server never answers",
      { server: taken, hasCommand: false },
      /took too long/,
      COMPONENT_MS,
    ),
  ];
  const start = (what: string, jobs: readonly HookedJob[], limitMs?: number): Row =>
    toRow(
      START,
      what,
      jobs.map(({ startMs }) => startMs),
      limitMs,
    );
  const rows = [
    start("`job-started.sh`, GitHub's", github, WARM_MS),
    start("`pre-build.sh` in the job's shell, GitLab's", gitlab, WARM_MS),
    start("`job-started.sh`, when Node has kept nothing of the command yet", first),
    start("`job-started.sh`, the server is down", down, BLACK_HOLE_MS),
    start(
      "`job-started.sh`, the server takes the connection and never answers",
      silent,
      BLACK_HOLE_MS,
    ),
    toRow(
      "A job's end that has nothing to push, milliseconds",
      "`job-completed.sh`",
      github.map(({ endMs }) => endMs),
    ),
    ...components,
  ];
  const { nix } = machine.sandbox;
  const { bazel } = machine.workspace;
  const text = `Measured on ${describeMachine()}, with Nix ${nix.version} and Bazel ${bazel.version}: both are set up, and the project pins its Bazel in \`.bazelversion\`, so that nobody has to ask. The command is the bundle, by a launcher as the how-to has it. Each figure is the median of ${rounds}, with the fastest and the slowest.\n${formatTable(rows, [])}`;
  process.stdout.write(`${text}\n`);
  if (!quick) {
    await writeSection(
      "A runner's hooks",
      `Written by \`pnpm bench hooks\`.\n\n${text}\n\n${READING}`,
    );
  }
}

function toRow(group: string, what: string, values: readonly number[], limitMs?: number): Row {
  const sorted = values.toSorted((a, b) => a - b);
  const median = sorted[sorted.length >> 1] ?? Number.NaN;
  const [fastest = median, slowest = median] = [sorted[0], sorted.at(-1)];
  return {
    group,
    what,
    ours: `${median.toFixed(0)} (${fastest.toFixed(0)} to ${slowest.toFixed(0)})`,
    reference: "",
    ratio: undefined,
    goal: limitMs === undefined ? undefined : atMost(limitMs, median, "ms"),
    peers: {},
    values: { ours: values },
  };
}
