import { mkdir, rm } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { findNixVersions, type RunningFlywheel, startFlywheel } from "@glorious/testkit";

import { output, time, type Timing } from "../command.ts";
import { atMost, mib, mibPerSecond, type Row } from "../report.ts";
import { type Bounds, pushBound } from "./bounds.ts";
import { type Corpus, type CorpusSize, openCorpus } from "./corpus.ts";
import { startCountingProxy } from "./counting-proxy.ts";
import type { Contents } from "./endpoint.ts";
import { processorSeconds } from "./memory.ts";

const LAUNCHER = fileURLToPath(new URL("../../../bin/flywheel", import.meta.url));

/** `flywheel push`, on its own clock. With `/usr/bin/time` there, its peak of memory too. */
async function push(url: string, tokenFile: string, top: string): Promise<Timing> {
  return time(LAUNCHER, [
    "push",
    "--server",
    url,
    "--view",
    "main",
    "--token-file",
    tokenFile,
    "--json",
    top,
  ]);
}

interface PushSetting {
  readonly corpus: Corpus;
  readonly bounds: Bounds;
  readonly work: string;
  readonly rounds: number;
  readonly cores: number;
  readonly say: (line: string) => void;
}

/** Into an empty server, durable; client and server share the cores. */
export async function pushCold(setting: PushSetting): Promise<Row[]> {
  const { corpus, bounds, work, cores } = setting;
  const seconds: number[] = [];
  const peaks: number[] = [];
  const processor: number[] = [];
  const directories: string[] = [];
  let storedBytes = 0;
  for (let round = 0; round < setting.rounds; round += 1) {
    setting.say(`cold push ${round + 1}`);
    const dataDirectory = path.join(work, `push-${round}`);
    directories.push(dataDirectory);
    const server = await startFlywheel({ dataDirectory, env: { FLYWHEEL_LOG_REQUESTS: "false" } });
    try {
      const before = processorSeconds(server.pid);
      const pushed = await push(server.url, server.tokenFile, corpus.top);
      seconds.push(pushed.seconds);
      processor.push(pushed.cpuSeconds + processorSeconds(server.pid) - before);
      peaks.push((await server.peakMemoryBytes()) ?? 0);
      storedBytes = await sizeOf(path.join(dataDirectory, "store", "blobs"));
    } finally {
      await server.stop();
    }
  }
  // Not before: a file system may look for a long while at what has just been deleted.
  for (const directory of directories) await rm(directory, { recursive: true, force: true });
  const best = Math.min(...seconds);
  const bound = pushBound(bounds, { narBytes: corpus.narBytes, storedBytes, cores });
  const bare = Math.max(bound.client, bound.disk);
  const group = "Cold push, client and server on the same cores, durable";
  const rows: Row[] = [
    {
      group,
      what: `${corpus.paths.length} paths, ${mib(corpus.narBytes)}; bound: all hashing, encoding and verifying on ${cores} cores, or the disk`,
      ours: `${best.toFixed(2)} s, ${mibPerSecond(corpus.narBytes / best)} (server's peak ${mib(Math.max(...peaks))})`,
      reference: `${bound.seconds.toFixed(2)} s (processor ${bound.processor.toFixed(2)}, disk ${bound.disk.toFixed(2)})`,
      ratio: best / bound.seconds,
      goal: atMost(1.5, best / bound.seconds),
      peers: {},
      values: { ours: seconds },
    },
    {
      group,
      what: "processor time of client and server together, whatever else the machine did",
      ours: `${Math.min(...processor).toFixed(2)} s`,
      reference: `${(bound.processor * cores).toFixed(2)} s`,
      ratio: Math.min(...processor) / (bound.processor * cores),
      peers: {},
      values: { ours: processor },
    },
    {
      group,
      what: "the same against a server that verifies nothing",
      ours: `${best.toFixed(2)} s`,
      reference: `${bare.toFixed(2)} s`,
      ratio: best / bare,
      peers: {},
    },
  ];
  const nix = findNixVersions().at(-1);
  if (nix !== undefined) {
    const target = path.join(work, "file-cache");
    const { seconds: copy } = await time(
      path.join(nix.binDirectory, "nix"),
      [
        "--extra-experimental-features",
        "nix-command",
        "copy",
        "--to",
        `file://${target}?compression=zstd`,
        corpus.top,
      ],
      { ...process.env, NIX_REMOTE: "", HOME: work, XDG_CACHE_HOME: path.join(work, "nix-cache") },
    );
    await rm(target, { recursive: true, force: true });
    rows.push({
      group,
      what: `reference: \`nix copy --to file://…?compression=zstd\` (Nix ${nix.version}), which verifies and flushes nothing`,
      ours: `${best.toFixed(2)} s`,
      reference: `${copy.toFixed(2)} s`,
      ratio: best / copy,
      peers: {},
    });
  }
  return rows;
}

/** The same push again, with nothing to do: requests through a proxy that counts them. */
export async function pushWarm(
  server: RunningFlywheel,
  top: string,
  say: (line: string) => void,
): Promise<Row[]> {
  say("warm re-push");
  const { seconds } = await push(server.url, server.tokenFile, top);
  await using proxy = await startCountingProxy(server.url);
  await push(proxy.url, server.tokenFile, top);
  return [
    {
      group: "Warm re-push",
      what: `round trips: ${proxy.requests.map((request) => request.replace(/\/views\/.*\//, "/…/")).join(", ")}`,
      ours: `${proxy.requests.length} (${seconds.toFixed(2)} s)`,
      reference: "3",
      ratio: undefined,
      goal: atMost(3, proxy.requests.length, "round trips"),
      peers: {},
    },
  ];
}

/** What our encoding takes on disk, beside the zstd program on each NAR. */
export async function compareStoredBytes(corpus: Corpus, contents: Contents): Promise<Row> {
  const nix = findNixVersions()[0];
  const script =
    'sum=0; for p in "$@"; do n=$("$NIX_STORE" --dump "$p" | zstd -3 -q -c | wc -c); sum=$((sum + n)); done; echo $sum';
  const text = await output("bash", ["-c", script, "bash", ...corpus.paths], {
    env: {
      ...process.env,
      NIX_STORE: path.join(nix?.binDirectory ?? "", "nix-store"),
      NIX_REMOTE: "",
    },
  });
  const reference = Number(text);
  const ours = contents.nars.reduce((sum, nar) => sum + (nar.sizeBytes ?? 0), 0);
  return {
    group: "Bytes stored",
    what: "the corpus, beside `zstd -3` of each NAR",
    ours: mib(ours),
    reference: mib(reference),
    ratio: ours / reference,
    goal: atMost(1.03, ours / reference),
    peers: {},
  };
}

/** Successive versions of a small closure, of which every path differs in one small file. */
export async function pushVersions(options: {
  readonly size: CorpusSize;
  readonly versions: number;
  readonly work: string;
  readonly say: (line: string) => void;
}): Promise<Row> {
  const { size, versions, work, say } = options;
  const dataDirectory = path.join(work, "versions");
  await mkdir(dataDirectory);
  const server = await startFlywheel({ dataDirectory, env: { FLYWHEEL_LOG_REQUESTS: "false" } });
  let first = 0;
  let narBytes = 0;
  try {
    for (let version = 1; version <= versions; version += 1) {
      say(`version ${version} of ${versions}`);
      const corpus = await openCorpus(size, String(version), version === 1);
      narBytes += corpus.narBytes;
      await push(server.url, server.tokenFile, corpus.top);
      if (version === 1) first = await sizeOf(path.join(dataDirectory, "store", "blobs"));
    }
    const all = await sizeOf(path.join(dataDirectory, "store", "blobs"));
    return {
      group: "Bytes stored",
      what: `${versions} successive versions of a closure of ${mib(narBytes / versions)}, beside one; whole NARs are stored, so nothing is shared between versions`,
      ours: mib(all),
      reference: mib(first),
      ratio: all / first,
      peers: {},
    };
  } finally {
    await server.stop();
  }
}

async function sizeOf(directory: string): Promise<number> {
  return Number(
    (
      await output("bash", [
        "-c",
        'find "$1" -type f -printf "%s\\n" | awk \'{ sum += $1 } END { print sum + 0 }\'',
        "bash",
        directory,
      ])
    ).trim(),
  );
}
