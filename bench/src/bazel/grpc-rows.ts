import { atLeast, atMost, type Goal, type Row } from "../report.ts";
import { formatRate, formatVolume } from "./bazel-report.ts";
import {
  findMissingCase,
  getActionCase,
  type GrpcCase,
  type Population,
  readCase,
  writeCase,
} from "./cases.ts";
import { playCase } from "./grpc-stage.ts";
import type { Subject } from "./subjects.ts";

export interface GoalCase extends GrpcCase {
  /** How many times casd's rate it has to reach. */
  readonly goal: number | undefined;
  /** Whether what the disk allows stands beside it. */
  readonly isBoundByDisk: boolean;
}

export function grpcCases(population: Population, quick: boolean): GoalCase[] {
  const [smallWrites, largeWrites] = quick ? [2000, 64] : [12_000, 256];
  const cases: [GrpcCase, number?][] = [
    [getActionCase(population, "uniform"), 4],
    [getActionCase(population, "zipf"), 4],
    [findMissingCase(population, 1, "uniform"), 5],
    [findMissingCase(population, 1, "zipf"), 5],
    [findMissingCase(population, 5, "uniform")],
    [findMissingCase(population, 5, "zipf")],
    [findMissingCase(population, 1000, "uniform"), 2],
    [findMissingCase(population, 1000, "zipf"), 2],
    [readCase(population, "4 KiB", "plain", "uniform"), 1.5],
    [readCase(population, "4 KiB", "plain", "zipf"), 1.5],
    [readCase(population, "4 KiB", "zstd", "uniform")],
    [readCase(population, "1 MiB", "plain", "uniform")],
    [readCase(population, "1 MiB", "zstd", "uniform")],
    [writeCase("4 KiB", "plain", smallWrites), 1],
    [writeCase("4 KiB", "zstd", smallWrites)],
    [writeCase("1 MiB", "plain", largeWrites), 1],
    [writeCase("1 MiB", "zstd", largeWrites)],
  ];
  return cases.map(([each, goal]) => ({
    ...each,
    goal,
    isBoundByDisk: each.name === "Write 1 MiB, plain",
  }));
}

/** @throws {Error} when ours answers wrongly. */
export async function grpcRow(
  grpcCase: GoalCase,
  subjects: readonly Subject[],
  options: { readonly rounds: number; readonly measureMs: number },
): Promise<Row> {
  const { goal, name, bytesPerCall } = grpcCase;
  const results = await playCase(grpcCase, subjects, options);
  const [ours, casd] = [results.get("ours"), results.get("casd")];
  if (ours === undefined) throw new Error(`${name} was not measured`);
  const ratio = casd && ours.perSecond / casd.perSecond;
  const isWithoutPeer = !subjects.some((subject) => subject.name === "casd");
  return {
    group: "gRPC, requests per second; p50 and p99 in milliseconds",
    what: name,
    ours: `${formatRate(ours)}${formatVolume(bytesPerCall, ours)}`,
    reference:
      casd !== undefined
        ? `${formatRate(casd)}${formatVolume(bytesPerCall, casd)}`
        : isWithoutPeer
          ? "not run"
          : "does not answer it",
    ratio,
    goal: ratio === undefined || goal === undefined ? undefined : atLeast(goal, ratio, "×"),
    tailGoal:
      casd === undefined || goal === undefined ? undefined : noSlowerTail(ours.p99Ms / casd.p99Ms),
    peers: Object.fromEntries(
      [...results].flatMap(([peer, result]) =>
        peer === "ours" || peer === "casd" || result === undefined || casd === undefined
          ? []
          : [[peer, result.perSecond / casd.perSecond]],
      ),
    ),
    values: Object.fromEntries(
      [...results].map(([peer, it]) => [peer, it ? [it.perSecond, it.p50Ms, it.p99Ms] : []]),
    ),
  };
}

function noSlowerTail(ratio: number): Goal {
  const { text, met } = atMost(1, ratio);
  return { text: `p99 ${ratio.toFixed(2)} ×, ${text}`, met };
}
