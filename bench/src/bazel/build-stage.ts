import { performance } from "node:perf_hooks";

import { createBazelWorkspace, findBazelVersions } from "@glorious/testkit";

import type { Row } from "../report.ts";
import type { Subject } from "./subjects.ts";

/** The wall times of one generated build, in seconds. */
interface BuildTimes {
  readonly bazel: string;
  readonly actions: number;
  readonly withoutCache: number;
  readonly firstBuild: number;
  readonly cachedGrpc: number;
  readonly cachedHttp: number;
}

/** Bazel's client and its JVM, the actions and the server are on the same cores; nothing may hang for long. */
const TIMEOUT_MS = 240_000;

/**
 * Builds generated rules of 8 KiB each with real Bazel: without a cache, filling ours, and from ours.
 *
 * @throws {Error} when a build fails, or not everything comes from the cache.
 */
async function timeBuilds(ours: Subject, actions: number): Promise<BuildTimes | string> {
  const bazel = findBazelVersions()[0];
  if (bazel === undefined) return "no Bazel is here: `pnpm tools` brings it";
  await using workspace = await createBazelWorkspace(bazel);
  const salt = Date.now();
  const rules = Array.from(
    { length: actions },
    (_, place) =>
      `genrule(name = "g${place}", outs = ["g${place}.txt"], cmd = "printf '%08192d' ${salt}${place} > $@")\n`,
  );
  await workspace.write({ BUILD: rules.join("") });
  const { host, port } = ours.target;
  const [tenant] = ours.tenants;
  const common = [
    "--jobs=100",
    `--remote_header=authorization=Bearer ${tenant.token}`,
    `--remote_instance_name=${tenant.instance}`,
  ];
  const grpc = [...common, `--remote_cache=grpc://${host}:${port}`];
  const http = [
    "--jobs=100",
    `--remote_cache=http://${host}:${port}/${tenant.instance}`,
    `--remote_header=authorization=Bearer ${tenant.token}`,
  ];

  const build = async (args: readonly string[], hits: number | undefined): Promise<number> => {
    await workspace.clean();
    const startedAtMs = performance.now();
    const { status, stderr, processes } = await workspace.run(["build", ...args, "//..."], {
      timeoutMs: TIMEOUT_MS,
    });
    const seconds = (performance.now() - startedAtMs) / 1000;
    if (status !== 0) throw new Error(`bazel build ended with ${status}: ${stderr.slice(-2000)}`);
    if (hits !== undefined && processes["remote cache hit"] !== hits) {
      throw new Error(`${processes["remote cache hit"]} of ${hits} actions came from the cache`);
    }
    return seconds;
  };
  const withoutCache = await build(["--jobs=100"], undefined);
  const firstBuild = await build(grpc, undefined);
  const cachedGrpc = await build(grpc, actions);
  const cachedHttp = await build(http, actions);
  return { bazel: bazel.version, actions, withoutCache, firstBuild, cachedGrpc, cachedHttp };
}

/** The wall times of a real build; a text says why there are none. */
export async function buildRows(ours: Subject, actions: number): Promise<readonly Row[] | string> {
  const times = await timeBuilds(ours, actions);
  if (typeof times === "string") return times;
  const group = `A build of ${times.actions} actions of 8 KiB with Bazel ${times.bazel}, on the server's cores`;
  return (
    [
      ["all cached, over gRPC", times.cachedGrpc],
      ["all cached, over HTTP", times.cachedHttp],
      ["the first, with its uploads", times.firstBuild],
    ] as const
  ).map(([what, seconds]) => ({
    group,
    what: `${what}; reference: without a cache`,
    ours: `${seconds.toFixed(1)} s`,
    reference: `${times.withoutCache.toFixed(1)} s`,
    ratio: seconds / times.withoutCache,
    peers: {},
  }));
}
