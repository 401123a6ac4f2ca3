import { parseNixCacheInfo } from "@glorious/nix-store";

import { createUpstreamClient, type UpstreamTarget } from "./upstream-client.ts";
import type { UpstreamFault, UpstreamFaultReason } from "./upstream-fault.ts";

/** What an upstream answers when it is tried. */
export interface UpstreamTrial {
  /** Whether it answered at all. */
  readonly isReachable: boolean;
  /** Time until its first answer. */
  readonly durationMs: number;
  /** What was wrong, in the order in which it came up; empty when all is well. */
  readonly problems: readonly UpstreamProblem[];
  /** As its `nix-cache-info` says. */
  readonly storeDir: string | undefined;
  readonly priority: number | undefined;
  /** The path that was asked for. */
  readonly sample: { readonly storePathHash: string; readonly storePath?: string } | undefined;
}

export interface UpstreamProblem {
  readonly reason: UpstreamFaultReason;
  readonly message: string;
}

export interface TryUpstreamOptions {
  readonly deadlineMs: number;
  readonly maxNarInfoBytes: number;
  /** A path to ask for, which shows whether the key is right. */
  readonly storePathHash: string | undefined;
  readonly signal: AbortSignal;
}

const MAX_CACHE_INFO_BYTES = 64 * 1024;

/** Asks an upstream now, whatever is known of it, and counts and logs nothing of that. */
export async function tryUpstream(
  target: UpstreamTarget,
  { deadlineMs, maxNarInfoBytes, storePathHash, signal }: TryUpstreamOptions,
): Promise<UpstreamTrial> {
  const problems: UpstreamProblem[] = [];
  await using client = createUpstreamClient(target, {
    deadlineMs,
    maxNarInfoBytes,
    maxNarBytes: 0,
    maxDownloads: 1,
    reports: {
      fault: (_upstream, { reason, message }: UpstreamFault) => {
        problems.push({ reason, message });
      },
    },
  });
  const begin = performance.now();
  const info = await client.document("nix-cache-info", MAX_CACHE_INFO_BYTES, { via: [], signal });
  const durationMs = performance.now() - begin;
  const isReachable = info !== "unknown";
  const { storeDir, priority } = (Buffer.isBuffer(info) && readCacheInfo(info)) || {};
  const found =
    isReachable && storePathHash !== undefined
      ? await client.narInfo(storePathHash, { via: [], signal })
      : undefined;
  return {
    isReachable,
    durationMs,
    problems,
    storeDir,
    priority,
    sample:
      found === undefined || storePathHash === undefined
        ? undefined
        : {
            storePathHash,
            ...(typeof found === "object" && { storePath: found.manifest.storePath }),
          },
  };
}

function readCacheInfo(
  bytes: Buffer,
): { readonly storeDir: string; readonly priority: number | undefined } | undefined {
  try {
    return parseNixCacheInfo(bytes.toString("utf8"));
  } catch {
    // The client says that by itself when it is asked for a path.
    return undefined;
  }
}
