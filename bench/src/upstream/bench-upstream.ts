import { existsSync } from "node:fs";
import path from "node:path";

import { parseNarInfo } from "@glorious/nix-store";
import { startFaultProxy } from "@glorious/testkit";

import { type PullJob, pullDirectly, pullThroughAgent } from "../agent/agent-job.ts";
import { alternate, type Series } from "../alternate.ts";
import { describeMachine } from "../machine.ts";
import { openCorpus } from "../nix/corpus.ts";
import { writeSection } from "../report-section.ts";
import { formatTable, type Row } from "../report.ts";
import { compare, faster } from "./compare.ts";
import { fetchBodies } from "./fetch-bodies.ts";
import { measureFirstFetch } from "./first-fetch.ts";
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
/** As many as Nix tuned has. */
const BODY_CONNECTIONS = 128;
const TUNED = { "http-connections": "128", "max-substitution-jobs": "64" };

/** What the figures say; to be looked at again when they are taken again. */
const READING = `- The first row is the worst case there is: an upstream without any distance, which Nix reads as fast as it can unpack, on cores that
  the server needs meanwhile. It was 5.72 while every NAR was hashed, decoded, stored, read back, encoded again and stored a second
  time beside the fetch: 3.3 s of processor time, and 373 MB on the disk. Now the server takes 1.5 to 1.8 s, and 191 MB. Met it cannot be
  on two cores: what the bound's row adds up is decoding, two hashes, a way in and a way out, and is already more than 1.15.
- In a profile of the server's main thread over four first fetches, start-up and the second ones included, before the hashes and the decoder moved to a thread of
  their own: hashing 16 %, writing to sockets 13 %, reading files for the second fetches 6 % and for readers that fell behind 3 %, zstd 7 %, the garbage collector 6 %, writing files 3 %, the
  index 1 %, flushes less than 1 %. What is left above the bound is Node's way with each piece of 64 KiB and each request.
- Storing waits until nothing else is fetched, or for a second; nobody waits for it. What is not in zstd is encoded after three
  quiet seconds. Encoding zstd once more, as was done before, saved nothing: 182 MB as Nix packs it, and as much from us. xz is another
  matter: 30 MB of system libraries are 8.5 MB in xz and 11.2 MB in zstd, a third more, but 61 paths with 130 MiB took Nix 1.7 s out
  of an upstream in xz, and 0.4 to 0.9 s for the second time out of ours, which had them in zstd by then. That is why \`upstream.encoding\` is \`zstd\` by default.
- The proxy that stands for the link runs on the same cores; a real link takes none of them. Nix begins half a second after the set-up
  has ended, as a job's next step does.`;

const say = (line: string): void => void process.stderr.write(`bench: ${line}\n`);

/** Measures what reading through an upstream costs and brings, and prints ratios. */
export async function benchUpstream(options: UpstreamBenchOptions): Promise<void> {
  const rounds = options.rounds ?? (options.quick ? 1 : 3);
  const memoryDisk = existsSync(MEMORY_DISK);
  if (memoryDisk) process.env["TMPDIR"] = MEMORY_DISK;
  await using world = await openUpstreamWorld(say);
  const rows = [
    ...(await measureFirstFetch(world, { rounds, isQuick: options.quick, say })),
    ...(await measureFar(world, rounds)),
  ];
  const text = `Measured on ${describeMachine()}, with Nix ${world.nix.version}; the upstream is nginx with a signed static cache in zstd. Nix, agent, proxies, server and nginx share the cores${memoryDisk ? ", and all stores lie in memory" : ""}. Each figure is the best of ${rounds}, taken in turn.\n${formatTable(rows, [])}\n\n${READING}`;
  process.stdout.write(`${text}\n`);
  if (options.quick) return;
  await writeSection("Upstreams", `Written by \`pnpm bench upstream\`.\n\n${text}`);
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
  const token = await server.readToken();
  const urls = await listBodies(corpus.paths, `${server.url}/second`, token);
  const farUrls = urls.map((url) => url.replace(server.url, address));
  const series = await alternate(
    new Map([
      ["direct", async () => (await pullDirectly({ ...job, from: both })).seconds],
      ["tuned", async () => (await pullDirectly({ ...job, from: both, settings: TUNED })).seconds],
      ["agent", async () => (await pullThroughAgent(job)).seconds],
      ["bodies", () => fetchBodies({ urls: farUrls, token, connections: BODY_CONNECTIONS })],
      [
        "near",
        async () => {
          const near = { ...job, from: [`${server.url}/second`], settings: TUNED };
          return (await pullDirectly(near)).seconds;
        },
      ],
    ]),
    { rounds, best: "lowest" },
  );
  const of = (name: string): Series => required(series.get(name));
  // Whoever knows nothing beforehand asks for the closure, then for the bodies, and Nix begins with the first of these.
  const roundTrip = (2 * LATENCY_MS) / 1000;
  const bodies = of("bodies").best + roundTrip;
  const near = of("near").best + 2 * roundTrip;
  const bound = Math.max(bodies, near);
  const group = `400 paths, nine tenths upstream's and warm in us, ${2 * LATENCY_MS} ms of round-trip time, seconds`;
  return [
    faster(
      {
        group,
        what: "through the agent, against Nix at its defaults that asks both caches",
      },
      of("agent"),
      of("direct"),
      4,
    ),
    faster(
      { group, what: "through the agent, against Nix tuned that asks both caches" },
      of("agent"),
      of("tuned"),
      2,
    ),
    compare(
      {
        group,
        what: `through the agent, against the bound: a round trip for the closure and all bodies over ${BODY_CONNECTIONS} connections (${bodies.toFixed(2)} s), or that, another one for the first body and Nix beside the server (${near.toFixed(2)} s)`,
      },
      of("agent"),
      { values: [bound], best: bound },
      1.5,
    ),
  ];
}

/** The addresses of the NARs of paths in a view. */
async function listBodies(
  paths: readonly string[],
  view: string,
  token: string,
): Promise<string[]> {
  const headers = { authorization: `Bearer ${token}` };
  return Promise.all(
    paths.map(async (each) => {
      const hash = path.basename(each).slice(0, 32);
      const answer = await fetch(`${view}/${hash}.narinfo`, { headers });
      return `${view}/${parseNarInfo(await answer.text()).url}`;
    }),
  );
}

function required(series: Series | undefined): Series {
  if (series === undefined) throw new Error("It was not measured");
  return series;
}
