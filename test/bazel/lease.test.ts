import { createHash, randomBytes } from "node:crypto";
import { access, writeFile } from "node:fs/promises";
import path from "node:path";

import {
  type BazelResult,
  type BazelVersion,
  createBazelWorkspace,
  describeEachBazel,
  type RunningFlywheel,
  startFlywheel,
} from "@glorious/testkit";
import { expect, test, vi } from "vitest";

import { createVirtualClock } from "../virtual-clock.ts";
import { useBazel } from "./use-bazel.ts";

const HOUR_MS = 3_600_000;
const MAX_SIZE_BYTES = 20 * 2 ** 20;
const FILLER_BYTES = 2 ** 20;
const BIG = `genrule(name = "big", outs = ["big.txt"], cmd = "seq 1 100000 > $@")\n`;

/** Uploads as much as the cache may hold at all; what is too fresh to be evicted stays. */
async function fill(server: RunningFlywheel): Promise<void> {
  const headers = { authorization: `Bearer ${await server.readToken()}` };
  for (let sent = 0; sent < MAX_SIZE_BYTES; sent += FILLER_BYTES) {
    const body = randomBytes(FILLER_BYTES);
    const hash = createHash("sha256").update(body).digest("hex");
    const url = `${server.url}/${server.view}/cas/${hash}`;
    const { status } = await fetch(url, { method: "PUT", headers, body });
    expect([200, 507]).toContain(status);
  }
}

/** What FindMissingBlobs has told of so far that is there. */
async function countFound(server: RunningFlywheel): Promise<number> {
  const headers = { authorization: `Bearer ${await server.readToken()}` };
  const url = `${server.url}/_flywheel/v1/views/${server.view}/stats`;
  const stats: { bazel: { blobsFound: number } } = JSON.parse(
    await (await fetch(url, { headers })).text(),
  );
  return stats.bazel.blobsFound;
}

/** A build that needs, after six hours, what the cache told it of at its beginning. */
async function buildForHours(
  bazel: BazelVersion,
  { extendsLease, options }: { extendsLease: boolean; options: readonly string[] },
): Promise<BazelResult> {
  await using clock = await createVirtualClock();
  await using server = await startFlywheel({
    env: { ...clock.env, FLYWHEEL_BAZEL_MAX_SIZE: String(MAX_SIZE_BYTES) },
  });
  await using one = await createBazelWorkspace(bazel);
  await one.write({ BUILD: BIG });
  await useBazel(one, server);
  const first = await one.run(["build", "//..."]);
  expect(first.status, first.stderr).toBe(0);

  await using two = await createBazelWorkspace(bazel);
  await useBazel(two, server);
  const [waiting, goOn] = [path.join(two.home, "waiting"), path.join(two.home, "go-on")];
  const wait = `touch ${waiting}; until [ -e ${goOn} ]; do sleep 0.1; done; echo waited > $@`;
  await two.write({
    BUILD: `${BIG}
genrule(name = "waits", outs = ["waits.txt"], cmd = "${wait}")
genrule(name = "after", srcs = ["waits.txt", "big.txt"], outs = ["after.txt"], cmd = "tail -n 1 $(location big.txt) > $@")
`,
  });
  const args = ["--jobs=4", "--remote_download_minimal", ...options];
  const building = two.run(["build", ...args, "//:after"], { timeoutMs: 240_000 });
  try {
    await vi.waitUntil(() => exists(waiting), { timeout: 100_000 });
    await fill(server);
    for (let hour = 0; hour < 6; hour += 1) {
      await clock.advance(HOUR_MS);
      const before = await countFound(server);
      if (!extendsLease) continue;
      await vi.waitUntil(async () => (await countFound(server)) > before, { timeout: 30_000 });
    }
    // Room for this is made of whatever was not used within the TTL.
    await fill(server);
  } finally {
    await writeFile(goOn, "");
  }
  return await building;
}

describeEachBazel("a build of many hours", (bazel) => {
  // Bazel 4 has no lease extension: what it counts on for longer than `bazel.ttl` it may not find.
  const isNew = !bazel.version.startsWith("4.");

  const unaided = isNew ? ["--experimental_remote_cache_eviction_retries=0"] : [];

  test("keeps what it needs by extending its lease", async ({ skip }) => {
    skip(!isNew, "Bazel 4 has no lease extension");
    const options = [
      ...unaided,
      "--experimental_remote_cache_lease_extension",
      "--experimental_remote_cache_ttl=4s",
    ];
    const { status, stderr } = await buildForHours(bazel, { extendsLease: true, options });
    expect(status, stderr).toBe(0);
  });

  test("finds gone what it was told of longer ago than the TTL, when the cache is full", async () => {
    const options = unaided;
    const { status, stderr } = await buildForHours(bazel, { extendsLease: false, options });
    expect(status, stderr).toBe(isNew ? 39 : 36);
  });
});

function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}
