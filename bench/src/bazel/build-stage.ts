import { mkdir } from "node:fs/promises";
import path from "node:path";
import { performance } from "node:perf_hooks";

import { type BazelWorkspace, createBazelWorkspace, findBazelVersions } from "@glorious/testkit";

import { startNginx } from "../nginx.ts";
import { atMost, type Row } from "../report.ts";
import type { Tools } from "../tools.ts";
import type { Subject } from "./subjects.ts";

/** Bazel's client and its JVM, the actions and the server are on the same cores; nothing may hang for long. */
const TIMEOUT_MS = 240_000;
const JOBS = "--jobs=100";

export interface BuildSetting {
  readonly actions: number;
  /** Cached builds from each cache, taken in turn. */
  readonly rounds: number;
  /** Without peers nginx is left away. */
  readonly oursOnly: boolean;
  readonly tools: Pick<Tools, "nginx" | "env">;
  readonly work: string;
}

interface Cache {
  readonly name: string;
  readonly args: readonly string[];
}

/**
 * The wall times of a generated build with real Bazel: without a cache, filling ours and an nginx that takes
 * uploads, and from each. A text says why there are none. casd is no peer here: it refuses the API version that
 * Debian's Bazels ask for.
 *
 * @throws {Error} when a build fails, or not everything comes from the cache.
 */
export async function buildRows(
  ours: Subject,
  { actions, rounds, oursOnly, tools, work }: BuildSetting,
): Promise<readonly Row[] | string> {
  const bazel = findBazelVersions().at(-1);
  if (bazel === undefined) return "no Bazel is here: `pnpm tools` brings it";
  await using resources = new AsyncDisposableStack();
  const caches: Cache[] = [
    { name: "gRPC", args: overGrpc(ours) },
    { name: "HTTP", args: overHttp(ours) },
  ];
  if (!oursOnly) {
    const root = path.join(work, "uploads");
    await mkdir(root);
    const options = { directory: path.join(work, "nginx-uploads"), root, takesUploads: true };
    const { url } = resources.use(await startNginx(tools, options));
    caches.push({ name: "nginx", args: [`--remote_cache=${url}`] });
  }
  const workspace = resources.use(await createBazelWorkspace(bazel));
  await workspace.write({ BUILD: rulesOf(actions) });

  const withoutCache = await timeBuild(workspace, []);
  const first = new Map<string, number>();
  for (const { name, args } of caches) {
    // Both faces of ours share what is stored.
    if (name !== "HTTP") first.set(name, await timeBuild(workspace, args));
  }
  const cached = new Map<string, number>();
  for (let round = 0; round < rounds; round += 1) {
    for (const { name, args } of round % 2 === 0 ? caches : caches.toReversed()) {
      const seconds = await timeBuild(workspace, args, actions);
      cached.set(name, Math.min(seconds, cached.get(name) ?? Infinity));
    }
  }
  const group = `A build of ${actions} actions of 8 KiB with Bazel ${bazel.version}, on the server's cores`;
  const row = (what: string, seconds = Number.NaN, reference?: number): Row => ({
    group,
    what,
    ours: `${seconds.toFixed(1)} s`,
    reference: reference === undefined ? "" : `${reference.toFixed(1)} s`,
    ratio: reference === undefined ? undefined : seconds / reference,
    peers: {},
  });
  const fromNginx = cached.get("nginx");
  const versusNginx = (name: "gRPC" | "HTTP"): Row => {
    const each = row(
      `all cached, over ${name}; reference: nginx that takes uploads`,
      cached.get(name),
      fromNginx,
    );
    return { ...each, goal: each.ratio === undefined ? undefined : atMost(1, each.ratio) };
  };
  return [
    versusNginx("gRPC"),
    versusNginx("HTTP"),
    row("all cached, over gRPC; reference: without a cache", cached.get("gRPC"), withoutCache),
    row(
      "the first over gRPC, with its uploads; reference: nginx that takes uploads",
      first.get("gRPC"),
      first.get("nginx"),
    ),
  ];
}

/** Rules that no cache has seen. */
function rulesOf(actions: number): string {
  const salt = Date.now();
  return Array.from(
    { length: actions },
    (_, place) =>
      `genrule(name = "g${place}", outs = ["g${place}.txt"], cmd = "printf '%08192d' ${salt}${place} > $@")\n`,
  ).join("");
}

/** Builds everything anew; `hits` is how many actions have to come from the cache. */
async function timeBuild(
  workspace: BazelWorkspace,
  args: readonly string[],
  hits?: number,
): Promise<number> {
  await workspace.clean();
  const startedAtMs = performance.now();
  const { status, stderr, processes } = await workspace.run(["build", JOBS, ...args, "//..."], {
    timeoutMs: TIMEOUT_MS,
  });
  const seconds = (performance.now() - startedAtMs) / 1000;
  if (status !== 0) throw new Error(`bazel build ended with ${status}: ${stderr.slice(-2000)}`);
  if (hits !== undefined && processes["remote cache hit"] !== hits) {
    throw new Error(
      `${JSON.stringify(processes)}, where ${hits} actions had to come from the cache: ${stderr.slice(-1000)}`,
    );
  }
  return seconds;
}

function overGrpc({ target: { host, port }, tenants: [tenant] }: Subject): string[] {
  return [
    `--remote_cache=grpc://${host}:${port}`,
    `--remote_instance_name=${tenant.instance}`,
    `--remote_header=authorization=Bearer ${tenant.token}`,
  ];
}

function overHttp({ target: { host, port }, tenants: [tenant] }: Subject): string[] {
  return [
    `--remote_cache=http://${host}:${port}/${tenant.instance}`,
    `--remote_header=authorization=Bearer ${tenant.token}`,
  ];
}
