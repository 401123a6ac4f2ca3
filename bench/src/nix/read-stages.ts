import { rm } from "node:fs/promises";
import path from "node:path";

import { createNixSandbox } from "@glorious/testkit";

import { alternate, type Series } from "../alternate.ts";
import { time } from "../command.ts";
import { atLeast, atMost, mib, mibPerSecond, type Row, slowness } from "../report.ts";
import type { Tools } from "../tools.ts";
import { evict } from "./cold-cache.ts";
import type { Corpus } from "./corpus.ts";
import { type Contents, type Endpoint, readContents } from "./endpoint.ts";
import { askNarInfos, pullNars } from "./loads.ts";
import { measureMemory, processorSeconds } from "./memory.ts";

/** What every read stage measures. */
export interface ReadSetting {
  readonly tools: Tools;
  readonly ours: Endpoint;
  readonly reference: Endpoint;
  readonly peers: readonly Endpoint[];
  readonly corpus: Corpus;
  readonly contents: Contents;
  readonly publicKey: string;
  readonly directory: string;
  readonly rounds: number;
  readonly wrkSeconds: number;
  readonly serverPid: number;
  readonly referencePid: number;
  readonly say: (line: string) => void;
}

const contentsOf = new WeakMap<Endpoint, Contents>();

async function openContents(endpoint: Endpoint, setting: ReadSetting): Promise<Contents> {
  if (endpoint === setting.ours) return setting.contents;
  // Node's fetch does not know the bench's own authority; nginx serves what we serve.
  const known =
    contentsOf.get(endpoint) ??
    (endpoint.caFile === undefined
      ? await readContents(endpoint, setting.corpus.paths)
      : rebase(setting.contents));
  contentsOf.set(endpoint, known);
  return known;
}

/** Our contents as nginx has them: without the view in front. */
function rebase(contents: Contents): Contents {
  const strip = (text: string): string => text.replace(/^\/[^/]+/, "");
  return {
    narInfos: contents.narInfos.map(strip),
    nars: contents.nars.map((nar) => ({ ...nar, path: strip(nar.path) })),
    texts: contents.texts,
  };
}

export async function readNarInfos(
  setting: ReadSetting,
  group: string,
  connections: readonly number[],
  hasGoals = true,
): Promise<Row[]> {
  const rows: Row[] = [];
  for (const count of connections) {
    setting.say(`${group}: ${count} connections`);
    const subjects = await subjectsOf(setting, async (endpoint, contents) => {
      const options = {
        connections: count,
        seconds: setting.wrkSeconds,
        directory: setting.directory,
      };
      return (await askNarInfos(setting.tools, endpoint, contents.narInfos, options)).perSecond;
    });
    const series = await alternate(subjects, { rounds: setting.rounds, best: "highest" });
    const [ours, reference] = pair(series, setting);
    const ratio = slowness(ours, reference, "rate");
    const rate = (value: Series): string => `${Math.round(value.best)}/s`;
    const goal =
      count === 1 ? atMost(2, ratio) : count === 16 ? atLeast(30_000, ours.best, "/s") : undefined;
    rows.push({
      group,
      what: `${count} ${count === 1 ? "connection" : "connections"}`,
      ours: rate(ours),
      reference: rate(reference),
      ratio,
      goal: hasGoals ? goal : undefined,
      peers: peerRatios(series, setting, "rate"),
      values: valuesOf(series),
    });
  }
  return rows;
}

export async function readNars(
  setting: ReadSetting,
  group: string,
  connections: readonly number[],
  limit: number,
): Promise<Row[]> {
  const rows: Row[] = [];
  const bytes = setting.contents.nars.reduce((sum, nar) => sum + (nar.sizeBytes ?? 0), 0);
  for (const count of connections) {
    setting.say(`${group}: ${count} connections`);
    const clientLoad = new Map<string, number>();
    const subjects = await subjectsOf(setting, async (endpoint, contents) => {
      const pull = await pullNars(endpoint, contents.nars, {
        connections: count,
        directory: setting.directory,
      });
      clientLoad.set(
        endpoint.name,
        Math.min(clientLoad.get(endpoint.name) ?? Infinity, pull.clientCpuSeconds / pull.seconds),
      );
      return pull.seconds;
    });
    const [ourStart, theirStart] = [
      processorSeconds(setting.serverPid),
      processorSeconds(setting.referencePid),
    ];
    const series = await alternate(subjects, { rounds: setting.rounds, best: "lowest" });
    const runs = setting.rounds + 1;
    const ourCpu = (processorSeconds(setting.serverPid) - ourStart) / runs;
    const theirCpu = (processorSeconds(setting.referencePid) - theirStart) / runs;
    const [ours, reference] = pair(series, setting);
    const ratio = slowness(ours, reference, "time");
    const text = (value: Series, cpu: number, name: string): string =>
      `${value.best.toFixed(2)} s, ${mibPerSecond(bytes / value.best)} (server ${cpu.toFixed(2)} s of processor; client ${Math.round(100 * (clientLoad.get(name) ?? 0))} % of a core)`;
    rows.push({
      group,
      what: `${count} ${count === 1 ? "connection" : "connections"}, ${mib(bytes)}`,
      ours: text(ours, ourCpu, setting.ours.name),
      reference: text(reference, theirCpu, setting.reference.name),
      ratio,
      goal: count === 4 ? undefined : atMost(limit, ratio),
      peers: peerRatios(series, setting, "time"),
      values: valuesOf(series),
    });
  }
  return rows;
}

/** All NARs with none of their bytes in the page cache. `files` are what both servers read. */
export async function readCold(setting: ReadSetting, files: readonly string[]): Promise<Row[]> {
  const rows: Row[] = [];
  for (const count of [1, 16]) {
    setting.say(`cold page cache: ${count} connections`);
    let cached = 0;
    const subjects = await subjectsOf({ ...setting, peers: [] }, async (endpoint, contents) => {
      cached = Math.max(cached, await evict(files, setting.directory));
      const pull = await pullNars(endpoint, contents.nars, {
        connections: count,
        directory: setting.directory,
      });
      return pull.seconds;
    });
    const series = await alternate(subjects, {
      rounds: setting.rounds,
      best: "lowest",
      warmUp: false,
    });
    const [ours, reference] = pair(series, setting);
    const ratio = slowness(ours, reference, "time");
    rows.push({
      group: "All NARs from a cold page cache",
      what: `${count} ${count === 1 ? "connection" : "connections"} (${(cached * 100).toFixed(1)} % cached at the start)`,
      ours: `${ours.best.toFixed(2)} s`,
      reference: `${reference.best.toFixed(2)} s`,
      ratio,
      goal: atMost(1.1, ratio),
      peers: {},
      values: valuesOf(series),
    });
  }
  return rows;
}

/** The real `nix copy --from` into an empty store, signatures checked. */
export async function readCopies(setting: ReadSetting): Promise<Row> {
  setting.say(`nix copy --from, Nix ${setting.tools.nix.version}`);
  const subjects = await subjectsOf(setting, async (endpoint) => {
    await using sandbox = await createNixSandbox(setting.tools.nix, {
      trustedKeys: [setting.publicKey],
      netrc: endpoint.token === undefined ? [] : [{ password: endpoint.token }],
      // A peer signs with a key of its own.
      extra: { "require-sigs": setting.peers.includes(endpoint) ? "false" : "true" },
    });
    const nix = path.join(setting.tools.nix.binDirectory, "nix");
    const { seconds } = await time(
      nix,
      ["copy", "--from", endpoint.url, "--to", sandbox.store, setting.corpus.top],
      sandbox.env,
    );
    await removeStore(sandbox.store);
    return seconds;
  });
  const series = await alternate(subjects, { rounds: Math.min(setting.rounds, 3), best: "lowest" });
  const [ours, reference] = pair(series, setting);
  const ratio = slowness(ours, reference, "time");
  return {
    group: "nix copy --from into an empty store",
    what: `Nix ${setting.tools.nix.version}, ${mib(setting.corpus.narBytes)} of NAR`,
    ours: `${ours.best.toFixed(2)} s`,
    reference: `${reference.best.toFixed(2)} s`,
    ratio,
    goal: atMost(1.1, ratio),
    peers: peerRatios(series, setting, "time"),
    values: valuesOf(series),
  };
}

/** Store paths are read-only, and so are their folders. */
async function removeStore(store: string): Promise<void> {
  await time("chmod", ["-R", "u+w", store]);
  await rm(store, { recursive: true, force: true });
}

export async function readMemory(
  setting: ReadSetting,
  nar: Contents["nars"][number],
  fastReaders: number,
): Promise<Row[]> {
  setting.say(`memory: ${fastReaders} fast and 1000 slow readers of ${mib(nar.sizeBytes ?? 0)}`);
  const options = { fastReaders, slowReaders: 1000, directory: setting.directory };
  const stripped = { ...nar, path: nar.path.replace(/^\/[^/]+/, "") };
  const theirs = await measureMemory(setting.reference, setting.referencePid, {
    ...options,
    nar: stripped,
  });
  const ours = await measureMemory(setting.ours, setting.serverPid, { ...options, nar });
  const peak = ours.peakBytes / 2 ** 20;
  return [
    {
      group: "Memory",
      what: `resident at its highest, ${fastReaders} fast readers of ${mib(nar.sizeBytes ?? 0)} and 1000 slow ones`,
      ours: `${mib(ours.peakBytes)} (idle ${mib(ours.idleBytes)})`,
      reference: `${mib(theirs.peakBytes)} (idle ${mib(theirs.idleBytes)})`,
      ratio: undefined,
      goal: atMost(300, peak, "MiB"),
      peers: {},
      values: { ours: [ours.peakBytes], nginx: [theirs.peakBytes] },
    },
    {
      group: "Memory",
      what: "time of the fast readers meanwhile",
      ours: `${ours.seconds.toFixed(2)} s`,
      reference: `${theirs.seconds.toFixed(2)} s`,
      ratio: ours.seconds / theirs.seconds,
      peers: {},
    },
  ];
}

async function subjectsOf(
  setting: ReadSetting,
  measure: (endpoint: Endpoint, contents: Contents) => Promise<number>,
): Promise<Map<string, () => Promise<number>>> {
  const subjects = new Map<string, () => Promise<number>>();
  for (const endpoint of [setting.reference, setting.ours, ...setting.peers]) {
    const contents = await openContents(endpoint, setting);
    subjects.set(endpoint.name, () => measure(endpoint, contents));
  }
  return subjects;
}

function pair(series: ReadonlyMap<string, Series>, setting: ReadSetting): [Series, Series] {
  const [ours, reference] = [series.get(setting.ours.name), series.get(setting.reference.name)];
  if (ours === undefined || reference === undefined) throw new Error("A subject was not measured");
  return [ours, reference];
}

function peerRatios(
  series: ReadonlyMap<string, Series>,
  setting: ReadSetting,
  kind: "time" | "rate",
): Record<string, number> {
  const [, reference] = pair(series, setting);
  return Object.fromEntries(
    setting.peers.flatMap(({ name }) => {
      const peer = series.get(name);
      return peer === undefined ? [] : [[name, slowness(peer, reference, kind)]];
    }),
  );
}

function valuesOf(series: ReadonlyMap<string, Series>): Record<string, readonly number[]> {
  return Object.fromEntries([...series].map(([name, { values }]) => [name, values]));
}
