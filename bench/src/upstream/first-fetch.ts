import { availableParallelism } from "node:os";

import { startFaultProxy } from "@glorious/testkit";

import { type PullJob, pullDirectly } from "../agent/agent-job.ts";
import { alternate, type Series } from "../alternate.ts";
import type { Timing } from "../command.ts";
import { type Bounds, measureBounds } from "../nix/bounds.ts";
import { type Corpus, openCorpus, readSample } from "../nix/corpus.ts";
import { mib, type Row } from "../report.ts";
import { compare } from "./compare.ts";
import type { UpstreamWorld } from "./upstream-world.ts";

const LARGE = { count: 120, maxKiB: 12_288 };
const LARGE_QUICK = { count: 60, maxKiB: 12_288 };
/** In each direction. */
const LATENCY_MS = 25;
const LINK_BYTES_PER_SECOND = 125_000_000;
/** What the server does after a fetch, for what did not come in zstd or is to be removed, is no part of the next one. */
const REST_MS = 2000;

export interface FirstFetchOptions {
  readonly rounds: number;
  readonly isQuick: boolean;
  readonly say: (line: string) => void;
}

/** A closure through us for the first time and the second, against the upstream and against what was pushed. */
export async function measureFirstFetch(
  world: UpstreamWorld,
  { rounds, isQuick, say }: FirstFetchOptions,
): Promise<Row[]> {
  say("a closure for the first time and the second");
  const corpus = await openCorpus(isQuick ? LARGE_QUICK : LARGE, "1", true);
  const fileBytes = await world.publish([corpus.top]);
  await world.flywheel([
    "push",
    corpus.top,
    "--view",
    "main",
    "--ignore-upstream-filter",
    "--json",
  ]);
  const viewKey = await world.createView("first");
  const bounds = await measureBounds(await readSample(corpus), world.directory);
  await using far = await startFaultProxy(
    () => Number(new URL(world.upstreamUrl).port),
    () => ({ latencyMs: LATENCY_MS }),
    { bytesPerSecond: LINK_BYTES_PER_SECOND },
  );
  const { server, nix, upstreamKey } = world;
  const job: PullJob = {
    nix,
    server,
    address: server.url,
    top: corpus.top,
    by: "realise",
    trustedKeys: [upstreamKey, viewKey],
  };
  const direct: Timing[] = [];
  const pull = async (from: string): Promise<number> => {
    const timing = await pullDirectly({ ...job, from: [from] });
    if (from === world.upstreamUrl) direct.push(timing);
    await new Promise((resolve) => setTimeout(resolve, REST_MS));
    return timing.seconds;
  };
  const first = async (upstream: string): Promise<number> => {
    await world.readThrough("first", `${upstream}/`);
    return pull(`${server.url}/first`);
  };
  const farUrl = `http://127.0.0.1:${far.port}`;
  const series = await alternate(
    new Map([
      ["upstream", () => pull(world.upstreamUrl)],
      ["first", () => first(world.upstreamUrl)],
      ["second", () => pull(`${server.url}/first`)],
      ["pushed", () => pull(`${server.url}/main`)],
      ["far upstream", () => pull(farUrl)],
      ["far first", () => first(farUrl)],
    ]),
    { rounds, best: "lowest" },
  );
  const of = (name: string): Series => required(series.get(name));
  const near = `${corpus.paths.length} paths with ${mib(corpus.narBytes)}, on loopback, seconds`;
  const away = `The same, the upstream ${2 * LATENCY_MS} ms of round-trip time and a link of 1 Gbit/s away, seconds`;
  const what = "first time through us, against the upstream itself";
  const bound = firstFetchBound(bounds, corpus, { fileBytes, direct });
  return [
    compare({ group: near, what }, of("first"), of("upstream"), 1.15),
    compare(
      {
        group: near,
        what: `first time through us, against the bound: Nix's own processor time and ours at the least, on ${availableParallelism()} cores`,
      },
      of("first"),
      bound,
    ),
    compare(
      { group: near, what: "second time through us, against what was pushed to us" },
      of("second"),
      of("pushed"),
      1,
    ),
    compare({ group: away, what }, of("far first"), of("far upstream"), 1.15),
  ];
}

/**
 * The least time of a first fetch when upstream, server and Nix have the same cores. What cannot be left out on the
 * server: the file's hash, decoding, the NAR's hash, a way in and a way out.
 */
function firstFetchBound(
  bounds: Bounds,
  { narBytes }: Corpus,
  { fileBytes, direct }: { readonly fileBytes: number; readonly direct: readonly Timing[] },
): Series {
  const nix = Math.min(...direct.map(({ cpuSeconds }) => cpuSeconds));
  const server =
    (fileBytes + narBytes) / bounds.sha256 +
    narBytes / bounds.unzstd +
    (2 * fileBytes) / bounds.loopback;
  const processor = (nix + server) / availableParallelism();
  const alone = Math.min(...direct.map(({ seconds }) => seconds));
  const best = Math.max(processor, alone);
  return { values: [best], best };
}

function required(series: Series | undefined): Series {
  if (series === undefined) throw new Error("It was not measured");
  return series;
}
