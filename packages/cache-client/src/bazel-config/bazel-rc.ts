import { type BazelRelease, isAtLeast } from "./bazel-version.ts";
import { quoteRcWord } from "./rc-word.ts";
import { isGrpc, toHttpUrl } from "./remote-cache-address.ts";

/** What {@link formatBazelRc} writes down. */
export interface BazelRcRequest {
  readonly release: BazelRelease;
  /** `grpc://…`, `grpcs://…`, or `http(s)://…/<view>`. */
  readonly remoteCache: string;
  /** `<view>[/<sub instance>]`; over HTTP it is in the address. */
  readonly instanceName: string;
  /** Whether results may be written; the server refuses them otherwise, this spares the attempt. */
  readonly mayPush: boolean;
  /**
   * Whether blobs go as zstd, where Bazel can. It does not go on with a compressed upload that took longer than an
   * attempt, only with a plain one.
   */
  readonly isCompressed: boolean;
  /** The program that gives Bazel the token; `undefined` where there is none, or netrc has it. */
  readonly credentialHelper: string | undefined;
  /** `name=value`, sent with every request to the cache. Secret: for a Bazel that knows no credential helpers. */
  readonly header?: string | undefined;
  /** What Bazel brings to this machine of what it did not build here; default its own choice. */
  readonly download?: "toplevel" | "minimal" | "all" | undefined;
  /** A single attempt; default 10. */
  readonly timeoutSeconds?: number | undefined;
  /** The settings count for `--config=<name>` only. */
  readonly configName?: string | undefined;
}

/**
 * A single attempt, in seconds, and how many more there are. Bazel asks a gRPC cache what it can do before the build,
 * and goes on without it when the last attempt ends: after 20 seconds where the server is silent. Uploads and
 * downloads that take longer go on where they were.
 */
const TIMEOUT_SECONDS = 10;
const RETRIES = 1;

/**
 * The options that make a Bazel use a cache, and build on without it when it is down.
 *
 * Every line works with the release given: an option that Bazel does not know fails the build.
 */
export function formatBazelRc(request: BazelRcRequest): string {
  const { release, remoteCache, credentialHelper } = request;
  const overGrpc = isGrpc(remoteCache);
  const lines = [`--remote_cache=${remoteCache}`];
  if (overGrpc) lines.push(`--remote_instance_name=${request.instanceName}`);
  if (credentialHelper !== undefined) {
    // Bazel's patterns know no ports.
    lines.push(`--credential_helper=${toHttpUrl(remoteCache).hostname}=${credentialHelper}`);
  }
  if (request.header !== undefined) lines.push(`--remote_header=${request.header}`);
  if (request.download === "toplevel" || request.download === "minimal") {
    // These bring what each release needs besides; the option that they set is refused alone before Bazel 5.
    lines.push(`--remote_download_${request.download}`);
  }
  // Before Bazel 7 it is the default, under another name.
  if (request.download === "all" && isAtLeast(release, 7, 0)) {
    lines.push("--remote_download_outputs=all");
  }
  if (!request.mayPush) lines.push("--noremote_upload_local_results");
  lines.push(
    "--remote_local_fallback",
    `--remote_timeout=${request.timeoutSeconds ?? TIMEOUT_SECONDS}s`,
    `--remote_retries=${RETRIES}`,
    // Sources that change while they are compiled would poison what others get.
    "--experimental_guard_against_concurrent_changes",
  );
  if (isAtLeast(release, 7, 0)) {
    lines.push("--remote_retry_max_delay=1s", "--experimental_circuit_breaker_strategy=failure");
    if (overGrpc && request.isCompressed) lines.push("--remote_cache_compression");
  }
  // From Bazel 8 on it is the default.
  if (release.major === 7) lines.push("--experimental_remote_cache_eviction_retries=5");
  const { configName = "" } = request;
  const command = configName === "" ? "build" : `build:${configName}`;
  return lines.map((line) => `${command} ${quoteRcWord(line)}\n`).join("");
}
