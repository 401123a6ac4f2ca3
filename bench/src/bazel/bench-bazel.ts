import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { atMost, mib, type Row } from "../report.ts";
import { openUnpacked } from "../tools.ts";
import { formatIndex, report } from "./bazel-report.ts";
import { buildRows } from "./build-stage.ts";
import { populate } from "./cases.ts";
import { clientRows } from "./client-check.ts";
import { durableRow } from "./durable-row.ts";
import { fill } from "./fill.ts";
import { grpcCases, grpcRow } from "./grpc-rows.ts";
import { playOurs } from "./grpc-stage.ts";
import { httpCases, httpRows } from "./http-rows.ts";
import { httpFaceOf } from "./http-stage.ts";
import { defaultDataDirectory, fillOnce } from "./kept-data.ts";
import { freshMemoryRows, usedMemoryRow } from "./memory-stage.ts";
import { FULL, QUICK } from "./population.ts";
import { profileCases } from "./profile-stage.ts";
import { residentBytes, timeStartUp } from "./service-stage.ts";
import { startCasd, type Subject } from "./subjects.ts";

export const BAZEL_STAGES = ["start-up", "grpc", "memory", "http", "build", "client"] as const;
export type BazelStage = (typeof BAZEL_STAGES)[number];

export interface BazelOptions {
  readonly quick: boolean;
  readonly stages: readonly BazelStage[];
  /** Which calls of the stages grpc and http are made. */
  readonly calls: RegExp | undefined;
  /** Whether casd, nginx and bazel-remote are left away. */
  readonly oursOnly: boolean;
  /** Where processor profiles go; with it ours alone plays the calls, and no figures are kept. */
  readonly profileDirectory: string | undefined;
  /** Where what was stored once is kept; undefined is the temporary folder's. */
  readonly dataDirectory: string | undefined;
  readonly rounds: number | undefined;
  readonly jsonFile: string | undefined;
  /** Of a bazel-remote that runs without authentication and verifies, as `host:port`. */
  readonly bazelRemote: string | undefined;
}

const PROFILED_MS = 4000;

const say = (line: string): void => void process.stderr.write(`bench: ${line}\n`);

/** Measures our Bazel cache beside buildbox-casd, nginx and bazel-remote where it is given. */
export async function benchBazel(options: BazelOptions): Promise<void> {
  const { quick, stages, calls } = options;
  const scale = quick ? QUICK : FULL;
  const rounds = options.rounds ?? (quick ? 1 : 2);
  const measureMs = quick ? 1000 : 1500;
  const has = (stage: BazelStage): boolean => stages.includes(stage);
  const isWanted = ({ name }: { readonly name: string }): boolean => calls?.test(name) ?? true;
  const population = populate(scale);
  const ofGrpc = has("grpc") ? grpcCases(population, quick).filter(isWanted) : [];
  const ofHttp = has("http") ? httpCases(population, quick).filter(isWanted) : [];
  const oursOnly = options.oursOnly || options.profileDirectory !== undefined;
  const kept = await fillOnce(options.dataDirectory ?? defaultDataDirectory(quick), population, {
    oursOnly,
    say,
  });
  if (options.profileDirectory !== undefined) {
    // Longer, so that the start of the process counts for little.
    const measured = { rounds, measureMs: PROFILED_MS };
    const playables = [
      ...ofGrpc.map((each) => ({
        name: each.name,
        play: (subject: Subject) => playOurs(each, subject, measured),
      })),
      ...ofHttp.map((each) => ({
        name: each.name,
        play: (subject: Subject) =>
          each.play(httpFaceOf(subject), { measureMs: PROFILED_MS, round: 0 }),
      })),
    ];
    const { profileDirectory } = options;
    return await profileCases(playables, { dataDirectory: kept.ours, profileDirectory });
  }

  const tools = await openUnpacked(say);
  const work = await mkdtemp(path.join(tmpdir(), "flywheel-bench-"));
  const rows: Row[] = [];
  await using resources = new AsyncDisposableStack();
  resources.defer(() => rm(work, { recursive: true, force: true }));
  if (has("memory")) {
    say("memory of servers just started");
    rows.push(...(await freshMemoryRows({ population, quick }, { work, ours: kept.ours })));
  }
  const startUp = await timeStartUp(kept.ours, population.actions);
  const { server } = startUp;
  resources.use(server.process);
  const ours = server.subject;
  if (has("start-up")) {
    const idle = mib(await residentBytes(server.process.pid));
    for (const [what, seconds, note] of [
      [`ready, with ${formatIndex(scale)} blobs in the index`, startUp.readySeconds, ""],
      [
        "until each of the two tenants had an ActionResult",
        startUp.answeredSeconds,
        `, ${idle} resident`,
      ],
    ] as const) {
      rows.push({
        group: "Start-up",
        what,
        ours: `${seconds.toFixed(2)} s${note}`,
        reference: "",
        ratio: undefined,
        goal: atMost(2, seconds, "s"),
        peers: {},
      });
    }
  }
  const casd = oursOnly ? "not run" : await startCasd(kept.casd);
  if (typeof casd !== "string") resources.use(casd);
  const remote = oursOnly ? undefined : bazelRemoteOf(options.bazelRemote);
  if (remote !== undefined) await fill({ subject: remote, scale, small: population.small });
  const peers = [
    ...(typeof casd === "string" ? [] : [casd.subject]),
    ...(remote === undefined ? [] : [remote]),
  ];
  for (const grpcCase of ofGrpc) {
    say(grpcCase.name);
    const row = await grpcRow(grpcCase, [ours, ...peers], { rounds, measureMs });
    say(`${row.ours}; casd ${row.reference}`);
    rows.push(row);
    if (grpcCase.isBoundByDisk) {
      rows.push(await durableRow(grpcCase, row, { rounds, directory: kept.ours }));
    }
  }
  if (has("memory")) {
    say("memory of the server after these calls");
    rows.push(await usedMemoryRow(server, { population, quick }));
  }
  if (ofHttp.length > 0) {
    say("HTTP");
    const www = oursOnly ? undefined : kept.www;
    rows.push(...(await httpRows({ ours, cases: ofHttp, www, tools, work, measureMs, rounds })));
  }
  if (has("build")) {
    say("a real build");
    const setting = { actions: quick ? 200 : 1500, rounds, oursOnly, tools, work };
    const built = await buildRows(ours, setting);
    if (typeof built === "string") say(built);
    else rows.push(...built);
  }
  if (has("client")) {
    say("the client itself");
    rows.push(...(await clientRows({ population, ours, peers, rows, tools, work, measureMs })));
  }
  const isFull =
    !quick && !oursOnly && calls === undefined && stages.length === BAZEL_STAGES.length;
  await report({ jsonFile: options.jsonFile, isFull }, rows, {
    scale,
    rounds,
    casd: typeof casd === "string" ? undefined : casd.version,
    peers,
  });
}

function bazelRemoteOf(address: string | undefined): Subject | undefined {
  if (address === undefined) return undefined;
  const { hostname, port } = new URL(`http://${address}`);
  const nobody = { instance: "", token: undefined };
  return {
    name: "bazel-remote",
    target: { host: hostname, port: Number(port) },
    tenants: [nobody, nobody],
  };
}
