import { link, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { nix32ToSha256Hex } from "@glorious/nix-store";
import { type RunningFlywheel, startFlywheel } from "@glorious/testkit";

import { output } from "../command.ts";
import { cacheDirectory, describeMachine } from "../machine.ts";
import { startNginx } from "../nginx.ts";
import { formatTable, mib, mibPerSecond, type Row } from "../report.ts";
import { openTools } from "../tools.ts";
import { type Bounds, measureBounds } from "./bounds.ts";
import { type Corpus, type CorpusSize, openCorpus, openLargePath, readSample } from "./corpus.ts";
import { type Contents, type Endpoint, readContents } from "./endpoint.ts";
import { pushCold, pushVersions, pushWarm, compareStoredBytes } from "./push-stages.ts";
import {
  readCold,
  readCopies,
  readMemory,
  readNarInfos,
  readNars,
  type ReadSetting,
} from "./read-stages.ts";

export const STAGES = [
  "narinfo",
  "nar",
  "cold-cache",
  "copy",
  "memory",
  "tls",
  "push",
  "stored",
  "versions",
] as const;
export type Stage = (typeof STAGES)[number];

export interface BenchOptions {
  readonly quick: boolean;
  readonly stages: readonly Stage[];
  readonly rounds: number | undefined;
  readonly jsonFile: string | undefined;
  readonly printsCorpus: boolean;
  readonly peers: readonly {
    readonly name: string;
    readonly url: string;
    readonly tokenFile: string | undefined;
  }[];
}

interface Scale extends CorpusSize {
  readonly rounds: number;
  readonly wrkSeconds: number;
  readonly largeMiB: number;
  readonly versions: number;
}

const FULL: Scale = {
  count: 320,
  maxKiB: 24_576,
  rounds: 5,
  wrkSeconds: 3,
  largeMiB: 256,
  versions: 30,
};
const QUICK: Scale = {
  count: 60,
  maxKiB: 12_288,
  rounds: 3,
  wrkSeconds: 1,
  largeMiB: 64,
  versions: 3,
};
/** Successive versions are of a closure of this size, whatever the scale: 30 full ones would be 30 GiB. */
const VERSIONED: CorpusSize = QUICK;

const REPORT = fileURLToPath(new URL("../../../docs/benchmarks.md", import.meta.url));

const say = (line: string): void => void process.stderr.write(`bench: ${line}\n`);

/** Measures our cache plane for Nix beside nginx, peers and the machine's bounds, and prints ratios. */
export async function benchNix(options: BenchOptions): Promise<void> {
  const scale = options.quick ? QUICK : FULL;
  const rounds = options.rounds ?? scale.rounds;
  const has = (...stages: Stage[]): boolean =>
    stages.some((stage) => options.stages.includes(stage));
  say(`corpus of ${scale.count} paths`);
  const corpus = await openCorpus(scale, "1", true);
  if (options.printsCorpus) return void process.stdout.write(`${corpus.top}\n`);
  const tools = await openTools(say);
  await mkdir(path.join(cacheDirectory(), "bench"), { recursive: true });
  const work = await mkdtemp(path.join(cacheDirectory(), "bench", "work-"));
  const rows: Row[] = [];
  try {
    const certificate = await makeCertificate(work);
    say(`bounds of this machine, beside ${corpus.paths.length} paths with ${mib(corpus.narBytes)}`);
    const bounds = await measureBounds(await readSample(corpus), work);
    const dataDirectory = path.join(work, "data");
    if (has("push")) {
      rows.push(
        ...(await pushCold({
          corpus,
          bounds,
          work,
          rounds: Math.min(rounds, 3),
          cores: availableParallelism(),
          say,
        })),
      );
    }
    await using resources = new AsyncDisposableStack();
    let server = await startServer(dataDirectory);
    resources.defer(async () => void (await server.stop()));
    await push(server, corpus.top);
    const large = has("memory") ? await openLargePath(scale.largeMiB) : undefined;
    if (large !== undefined) await push(server, large.top);
    const token = await server.readToken();
    const oursAt = (url: string, caFile?: string): Endpoint => ({
      name: "ours",
      url: `${url}/main`,
      token,
      ...(caFile === undefined ? {} : { caFile }),
    });
    const contents = await readContents(oursAt(server.url), corpus.paths);
    const largeContents = large && (await readContents(oursAt(server.url), large.paths));
    const objects = [...contents.nars, ...(largeContents?.nars ?? [])].map(({ path: nar }) =>
      objectFile(dataDirectory, nar),
    );
    await writeStatic(path.join(work, "www"), dataDirectory, [
      contents,
      ...(largeContents === undefined ? [] : [largeContents]),
    ]);
    const nginx = resources.use(
      await startNginx(tools, {
        directory: path.join(work, "nginx"),
        root: path.join(work, "www"),
        certificate,
      }),
    );
    const peers: Endpoint[] = [];
    for (const { name, url, tokenFile } of options.peers) {
      const peerToken =
        tokenFile === undefined ? undefined : (await readFile(tokenFile, "utf8")).trim();
      peers.push({ name, url, token: peerToken });
    }
    const settingOf = (ours: Endpoint, reference: Endpoint, tls: boolean): ReadSetting => ({
      tools,
      ours,
      reference,
      peers: tls ? [] : peers,
      corpus,
      contents,
      publicKey: server.publicKey,
      directory: work,
      rounds,
      wrkSeconds: scale.wrkSeconds,
      serverPid: server.pid,
      referencePid: nginx.pid,
      say,
    });
    const plain = settingOf(oursAt(server.url), { name: "nginx", url: nginx.url }, false);
    if (has("narinfo"))
      rows.push(...(await readNarInfos(plain, "Narinfos, authenticated", [1, 4, 16])));
    if (has("nar")) rows.push(...(await readNars(plain, "All NARs, authenticated", [1, 4, 16], 1)));
    if (has("cold-cache"))
      rows.push(...(await readCold(plain, objects.slice(0, contents.nars.length))));
    if (has("copy")) rows.push(await readCopies(plain));
    if (largeContents?.nars[0] !== undefined)
      rows.push(...(await readMemory(plain, largeContents.nars[0], options.quick ? 16 : 64)));
    if (has("push")) rows.push(...(await pushWarm(server, corpus.top, say)));
    if (has("stored")) rows.push(await compareStoredBytes(corpus, contents));
    if (has("tls")) {
      await server.stop();
      server = await startServer(dataDirectory, [
        "--tls-cert",
        certificate.cert,
        "--tls-key",
        certificate.key,
      ]);
      const tls = settingOf(
        oursAt(server.url, certificate.cert),
        { name: "nginx", url: nginx.tlsUrl, caFile: certificate.cert },
        true,
      );
      rows.push(...(await readNars(tls, "All NARs over TLS", [1, 16], 1.1)));
      rows.push(...(await readNarInfos(tls, "Narinfos over TLS", [1, 16], false)));
    }
    if (has("versions"))
      rows.push(await pushVersions({ size: VERSIONED, versions: scale.versions, work, say }));
    await report(options, {
      rows,
      bounds,
      corpus,
      scale,
      rounds,
      peers: peers.map((peer) => peer.name),
      nix: tools.nix.version,
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

function startServer(
  dataDirectory: string,
  args: readonly string[] = [],
): Promise<RunningFlywheel> {
  return startFlywheel({ dataDirectory, args, env: { FLYWHEEL_LOG_REQUESTS: "false" } });
}

async function push(server: RunningFlywheel, top: string): Promise<void> {
  const launcher = fileURLToPath(new URL("../../../bin/flywheel", import.meta.url));
  await output(launcher, [
    "push",
    "--server",
    server.url,
    "--view",
    "main",
    "--token-file",
    server.tokenFile,
    "--json",
    top,
  ]);
}

async function makeCertificate(work: string): Promise<{ cert: string; key: string }> {
  const [cert, key] = [path.join(work, "cert.pem"), path.join(work, "key.pem")];
  await output("openssl", [
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-days",
    "2",
    "-subj",
    "/CN=bench",
    "-addext",
    "subjectAltName=IP:127.0.0.1",
    "-keyout",
    key,
    "-out",
    cert,
  ]);
  return { cert, key };
}

/** NAR bytes of some of the corpus's large paths. */
/** Where the filesystem store keeps what is served as `nar/<nix32>.nar.zst`. */
function objectFile(dataDirectory: string, narPath: string): string {
  const name = nix32ToSha256Hex(path.basename(narPath, ".nar.zst"));
  return path.join(
    dataDirectory,
    "store",
    "blobs",
    "nar",
    name.slice(0, 2),
    name.slice(2, 3),
    name,
  );
}

/** The same answers as static files. The NARs are the very files of our store, so both find them cached alike. */
async function writeStatic(
  root: string,
  dataDirectory: string,
  all: readonly Contents[],
): Promise<void> {
  await mkdir(path.join(root, "nar"), { recursive: true });
  await writeFile(
    path.join(root, "nix-cache-info"),
    "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n",
  );
  for (const contents of all) {
    for (const [hash, text] of contents.texts)
      await writeFile(path.join(root, `${hash}.narinfo`), text);
    for (const { path: nar } of contents.nars) {
      const target = path.join(root, "nar", path.basename(nar));
      await link(objectFile(dataDirectory, nar), target).catch(async (error: unknown) => {
        if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
      });
    }
  }
}

interface Result {
  readonly rows: readonly Row[];
  readonly bounds: Bounds;
  readonly corpus: Corpus;
  readonly scale: Scale;
  readonly rounds: number;
  readonly peers: readonly string[];
  readonly nix: string;
}

async function report(options: BenchOptions, result: Result): Promise<void> {
  const { rows, bounds, corpus, rounds, peers, nix } = result;
  const machine = describeMachine();
  const table = formatTable(rows, peers);
  const facts = `Measured on ${machine}. The corpus: ${corpus.paths.length} generated paths with ${mib(corpus.narBytes)} of NAR. Reference: nginx with two workers serving the same bytes as static files, where nothing else is said. The ratio is ours to the reference, slower is above 1; each is the best of ${rounds} measurements taken in turn. The clients are curl (NARs), wrk with one thread (narinfos) and Nix ${nix} (copies), on the same cores as the servers. ${describePeers(peers)}

Bounds of the machine in the same run: SHA-256 ${mibPerSecond(bounds.sha256)} and zstd level 3 ${mibPerSecond(bounds.zstd)} per core (to ${bounds.zstdRatio.toFixed(2)} of the size), zstd decoding ${mibPerSecond(bounds.unzstd)} per core, disk write with fsync ${mibPerSecond(bounds.diskWrite)}, loopback between two threads ${mibPerSecond(bounds.loopback)}.`;
  process.stdout.write(`${facts}\n${table}\n`);
  const jsonFile = options.jsonFile ?? path.join(cacheDirectory(), "bench", "last-nix.json");
  await writeFile(
    jsonFile,
    `${JSON.stringify({ machine, quick: options.quick, stages: options.stages, nix, rounds, corpus: { paths: corpus.paths.length, narBytes: corpus.narBytes }, bounds, rows }, undefined, 2)}\n`,
  );
  say(`figures are in ${jsonFile}`);
  if (options.quick || options.stages.length < STAGES.length) return;
  const before = await readFile(REPORT, "utf8").catch(() => "");
  const at = before.indexOf(READING);
  await writeFile(
    REPORT,
    `# Benchmarks\n\nWritten by \`pnpm bench nix\` down to "${READING.slice(3)}"; ratios travel from machine to machine, seconds do not.\n\n${facts}\n${table}\n\n${at === -1 ? `${READING}\n` : before.slice(at)}`,
  );
}

/** What people write about the figures; a run leaves it as it is. */
const READING = "## Reading the figures";

function describePeers(given: readonly string[]): string {
  const known = ["atticd", "harmonia", "niks3"];
  const missing = known.filter((name) => !given.includes(name));
  return missing.length === 0 ? "" : `Not run, as no endpoint was given: ${missing.join(", ")}.`;
}
