import { randomBytes } from "node:crypto";
import path from "node:path";

import { silentLogger } from "@glorious/core";
import {
  type BazelFace,
  createFixedCredentials,
  createStatistics,
  startBazelFace,
  type Statistics,
} from "@glorious/runner-agent";
import {
  type BazelVersion,
  createTemporaryDirectory,
  type RunningFlywheel,
} from "@glorious/testkit";

/** What a job's Bazel downloads of what the cache has. */
export type DownloadMode = "all" | "toplevel" | "minimal";

/** A face in this process, and the options that a job's Bazel uses it with. */
export interface BazelJob extends AsyncDisposable {
  readonly face: BazelFace;
  readonly statistics: Statistics;
  readonly secret: string;
  /** Options of `bazel build`. */
  args(bazel: BazelVersion, mode: DownloadMode): string[];
}

export async function startBazelJob(
  server: RunningFlywheel,
  options: { readonly upstreamPort?: number; readonly keepsBlobs?: boolean } = {},
): Promise<BazelJob> {
  const { upstreamPort, keepsBlobs = true } = options;
  await using resources = new AsyncDisposableStack();
  const { path: directory } = resources.use(await createTemporaryDirectory("flywheel-face-"));
  const secret = randomBytes(16).toString("base64url");
  const statistics = createStatistics();
  const http = new URL(server.url);
  if (upstreamPort !== undefined) http.port = String(upstreamPort);
  const face = resources.use(
    await startBazelFace({
      secret,
      upstream: { grpc: new URL(`grpc://${http.host}`), http, instanceName: server.view },
      credentials: createFixedCredentials(await server.readToken()),
      spoolDirectory: path.join(directory, "spool"),
      ...(keepsBlobs ? {} : { spoolBytes: 0 }),
      statistics,
      logger: silentLogger,
    }),
  );
  const owned = resources.move();
  return {
    face,
    statistics,
    secret,
    args: ({ version }, mode) => [
      `--remote_cache=${face.grpc}`,
      `--remote_instance_name=${server.view}`,
      `--remote_header=authorization=Bearer ${secret}`,
      "--remote_local_fallback",
      "--remote_timeout=60s",
      "--remote_retries=1",
      ...(mode === "all" ? [] : [`--remote_download_${mode}`]),
      ...(version.startsWith("4.") ? [] : ["--experimental_remote_cache_eviction_retries=5"]),
    ],
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
