import path from "node:path";

import { startNginx } from "../nginx.ts";
import { atLeast, type Row } from "../report.ts";
import type { Tools } from "../tools.ts";
import { formatRate } from "./bazel-report.ts";
import type { Population } from "./cases.ts";
import {
  type GetCase,
  httpFaceOf,
  type HttpPlay,
  type HttpSubject,
  playGets,
  playPuts,
  wrkGets,
} from "./http-stage.ts";
import type { ReplayResult } from "./load/replay.ts";
import { Hashes } from "./population.ts";
import type { Subject } from "./subjects.ts";

/** The blobs that are asked for over HTTP. */
export function getCases({ scale, blobs4KiB }: Population): GetCase[] {
  return [
    { kind: "4 KiB", count: scale.blobs4KiB, hashes: blobs4KiB },
    { kind: "1 MiB", count: scale.blobs1MiB, hashes: new Hashes("1 MiB", scale.blobs1MiB) },
  ];
}

/** Requests of one kind. */
export interface HttpCase {
  readonly name: string;
  /** How many times nginx's rate it has to reach. */
  readonly goal?: number;
  /** What wrk asks for beside the replayer; only reads have it, and a reference. */
  readonly gets?: GetCase;
  readonly play: (subject: HttpSubject, how: HttpPlay) => Promise<ReplayResult>;
}

export function httpCases(population: Population, quick: boolean): HttpCase[] {
  const { absent } = population;
  const [smallPuts, largePuts] = quick ? [1000, 32] : [12_000, 256];
  return [
    ...getCases(population).map((gets) => ({
      name: `GET ${gets.kind}`,
      ...(gets.kind === "1 MiB" && { goal: 1 }),
      gets,
      play: (subject: HttpSubject, how: HttpPlay) => playGets(subject, gets, absent, how),
    })),
    { name: "PUT 4 KiB", play: (subject) => playPuts(subject, "4 KiB", smallPuts) },
    { name: "PUT 1 MiB", play: (subject) => playPuts(subject, "1 MiB", largePuts) },
  ];
}

export interface HttpSetting {
  readonly ours: Subject;
  readonly cases: readonly HttpCase[];
  /** The folder that nginx serves; undefined leaves nginx away. */
  readonly www: string | undefined;
  readonly tools: Pick<Tools, "nginx" | "wrk" | "env">;
  readonly work: string;
  readonly measureMs: number;
  readonly rounds: number;
}

const GROUP = "HTTP, requests per second over 16 connections";

/** GETs beside nginx, and PUTs. @throws {Error} for any wrong answer. */
export async function httpRows(setting: HttpSetting): Promise<Row[]> {
  const { tools, work, www, cases } = setting;
  const ours = httpFaceOf(setting.ours);
  await using resources = new AsyncDisposableStack();
  const subjects = [ours];
  if (www !== undefined) {
    const directory = path.join(work, "nginx");
    const nginx = resources.use(await startNginx(tools, { directory, root: www }));
    const nobody = { prefix: "", token: undefined };
    subjects.push({
      name: "nginx",
      target: { host: "127.0.0.1", port: Number(new URL(nginx.url).port) },
      tenants: [nobody, nobody],
    });
  }
  const rows: Row[] = [];
  for (const each of cases) {
    rows.push(...(await measureCase(each, each.gets === undefined ? [ours] : subjects, setting)));
  }
  return rows;
}

interface Best {
  readonly replayed: ReplayResult;
  readonly wrk: number | undefined;
}

async function measureCase(
  { name, goal, gets, play }: HttpCase,
  subjects: readonly HttpSubject[],
  { tools, work, measureMs, rounds }: HttpSetting,
): Promise<Row[]> {
  const best = new Map<string, Best>();
  for (let round = 0; round < rounds; round += 1) {
    for (const subject of round % 2 === 0 ? subjects : subjects.toReversed()) {
      const replayed = await play(subject, { measureMs, round });
      if (replayed.wrong > 0) throw new Error(`${name} of ${subject.name}: ${replayed.firstWrong}`);
      const seconds = Math.ceil(measureMs / 1000);
      const wrk =
        gets && (await wrkGets(tools, subject, gets, { seconds, directory: work, round }));
      const before = best.get(subject.name);
      if (before === undefined || replayed.perSecond > before.replayed.perSecond) {
        best.set(subject.name, { replayed, wrk });
      }
    }
  }
  const [mine, nginx] = [best.get("ours"), best.get("nginx")];
  if (mine === undefined) throw new Error("nothing was measured");
  const ratio = nginx && mine.replayed.perSecond / nginx.replayed.perSecond;
  const suffix = nginx === undefined ? "" : "; reference: nginx";
  const rows: Row[] = [
    {
      group: GROUP,
      what: `${name}${suffix}`,
      ours: formatRate(mine.replayed),
      reference: nginx === undefined ? "" : formatRate(nginx.replayed),
      ratio,
      goal: ratio === undefined || goal === undefined ? undefined : atLeast(goal, ratio, "×"),
      peers: {},
    },
  ];
  if (mine.wrk !== undefined) {
    rows.push({
      group: GROUP,
      what: `${name}, wrk, all of them there${suffix}`,
      ours: `${Math.round(mine.wrk)}/s`,
      reference: nginx?.wrk === undefined ? "" : `${Math.round(nginx.wrk)}/s`,
      ratio: nginx?.wrk === undefined ? undefined : mine.wrk / nginx.wrk,
      peers: {},
    });
  }
  return rows;
}
