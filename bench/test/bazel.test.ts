import { writeFile } from "node:fs/promises";
import path from "node:path";

import { createTemporaryDirectory } from "@glorious/testkit";
import { describe, expect, test } from "vitest";

import {
  findMissingCase,
  getActionCase,
  type GrpcCase,
  populate,
  type Population,
  readCase,
  writeCase,
} from "../src/bazel/cases.ts";
import { fill } from "../src/bazel/fill.ts";
import { playCase } from "../src/bazel/grpc-stage.ts";
import { httpFaceOf, layGets } from "../src/bazel/http-stage.ts";
import { encodeCallHeaders, encodeGrpcBody } from "../src/bazel/load/frames.ts";
import { replay } from "../src/bazel/load/replay.ts";
import { type Expected, type Ring, RingBuilder } from "../src/bazel/load/ring.ts";
import { chooser, isMissing, type Scale } from "../src/bazel/population.ts";
import { summarizeProfiles } from "../src/bazel/profile-summary.ts";
import { startConstant, startOurs } from "../src/bazel/subjects.ts";

const SCALE: Scale = { smallBlobs: 4000, blobs4KiB: 100, blobs1MiB: 4, actions: 200 };
const CONSTANT_BYTES = 300;

function ringOf(calls: number, bodyBytes: number, expected: Expected): Ring {
  const builder = new RingBuilder();
  const headers = encodeCallHeaders("/a.B/C", "127.0.0.1", "token");
  for (let call = 0; call < calls; call += 1) {
    builder.addCall(headers, encodeGrpcBody([Buffer.alloc(bodyBytes)]), expected);
  }
  return builder.build();
}

describe("the replayer", () => {
  test("plays every call once and counts every answer", async () => {
    await using constant = await startConstant(CONSTANT_BYTES);
    const exact = { minBytes: CONSTANT_BYTES, maxBytes: CONSTANT_BYTES };
    // The last is larger than the windows that a connection begins with.
    const rings = [ringOf(100, 10, exact), ringOf(1, 0, exact), ringOf(3, 200_000, exact)];

    const result = await replay(constant, {
      protocol: "h2c",
      rings,
      depth: 7,
      measureMs: undefined,
    });

    expect(result).toMatchObject({ answers: 104, wrong: 0, firstWrong: undefined });
    expect(result.p99Ms).toBeGreaterThanOrEqual(result.p50Ms);
  });

  test("counts answers of another length as wrong", async () => {
    await using constant = await startConstant(CONSTANT_BYTES);
    const rings = [ringOf(10, 10, { minBytes: 0, maxBytes: CONSTANT_BYTES - 1 })];
    expect(
      await replay(constant, { protocol: "h2c", rings, depth: 3, measureMs: undefined }),
    ).toMatchObject({ answers: 10, wrong: 10 });
  });
});

test("uniform keys come once each, Zipf's mostly from few, and a tenant's three in ten are missing", () => {
  const count = 20_000;
  const uniform = chooser("uniform", count, 1);
  const keys = Array.from({ length: count }, (_, call) => uniform(call % 2));
  expect(new Set(keys).size).toBe(count);
  expect(keys.every((key, call) => key % 2 === call % 2)).toBe(true);
  for (const parity of [0, 1]) {
    const missing = keys.filter((key) => key % 2 === parity && isMissing(key));
    expect(missing).toHaveLength((count / 2) * 0.3);
  }
  const zipf = chooser("zipf", count, 1);
  const drawn = Array.from({ length: count }, () => zipf(0));
  expect(drawn.every((key) => key >= 0 && key < count && key % 2 === 0)).toBe(true);
  expect(new Set(drawn).size).toBeLessThan(count / 4);
});

test("a profile's summary gives each function its share of the time in which something was done", async () => {
  await using directory = await createTemporaryDirectory("flywheel-bench-");
  const at = (functionName: string, url: string) => ({ functionName, url, lineNumber: 9 });
  const profile = {
    nodes: [
      { id: 1, callFrame: at("(idle)", "") },
      { id: 2, callFrame: at("find", "file:///somewhere/packages/cache-server/src/find.ts") },
      { id: 3, callFrame: at("writev", "") },
    ],
    samples: [1, 2, 3, 2],
    timeDeltas: [1_000_000, 2_000_000, 1_000_000, 1_000_000],
  };
  await writeFile(path.join(directory.path, "one.cpuprofile"), JSON.stringify(profile));

  const summary = await summarizeProfiles(directory.path);

  expect(summary).toContain("busy 4.0 s of 5.0 s");
  expect(summary).toContain("75.0 % find cache-server/src/find.ts:10\n   25.0 % writev");
});

test("our server answers every call of every case as it is expected to", async () => {
  await using directory = await createTemporaryDirectory("flywheel-bench-");
  const { subject, process: server } = await startOurs(directory.path);
  await using resources = new AsyncDisposableStack();
  resources.defer(async () => void (await server.stop()));
  const population: Population = populate(SCALE);
  await fill({ subject, scale: SCALE, small: population.small });
  const cases: GrpcCase[] = [
    ...(["uniform", "zipf"] as const).flatMap((distribution) => [
      getActionCase(population, distribution),
      findMissingCase(population, 1, distribution),
      findMissingCase(population, 5, distribution),
      findMissingCase(population, 1000, distribution),
      readCase(population, "4 KiB", "plain", distribution),
    ]),
    readCase(population, "4 KiB", "zstd", "uniform"),
    readCase(population, "1 MiB", "plain", "uniform"),
    readCase(population, "1 MiB", "zstd", "uniform"),
    writeCase("4 KiB", "plain", 32),
    writeCase("4 KiB", "zstd", 32),
    writeCase("1 MiB", "plain", 4),
    writeCase("1 MiB", "zstd", 4),
  ];
  for (const each of cases) {
    const rings = each.lay(subject);
    const calls = rings.reduce((sum, ring) => sum + ring.length, 0);
    const once = { ...each, isOnce: true, lay: () => rings.filter(({ length }) => length > 0) };
    const result = await playCase(once, [subject], { rounds: 1, measureMs: 0 });
    expect(result.get("ours"), each.name).toMatchObject({ wrong: 0, answers: calls });
  }
  const gets = { kind: "4 KiB", count: SCALE.blobs4KiB, hashes: population.blobs4KiB } as const;
  const result = await replay(subject.target, {
    protocol: "http1",
    rings: layGets(httpFaceOf(subject), gets, population.absent),
    depth: 1,
    measureMs: undefined,
  });
  expect(result).toMatchObject({ answers: SCALE.blobs4KiB, wrong: 0 });
});
