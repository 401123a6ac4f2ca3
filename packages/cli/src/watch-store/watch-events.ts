import { formatCount, formatDurationMs, formatSizeBytes } from "@glorious/core";

/** What a watch has to tell; `--json` prints one a line. */
export type WatchEvent =
  | {
      readonly type: "watching";
      readonly server: string;
      readonly view: string;
      readonly storeDir: string;
    }
  | {
      readonly type: "pushed";
      /** The new paths; what they refer to went with them. */
      readonly storePaths: readonly string[];
      readonly uploaded: number;
      readonly deduplicated: number;
      readonly alreadyPresent: number;
      /** Left out because an upstream signed them. */
      readonly skipped: number;
      readonly conflicts: number;
      readonly sentBytes: number;
      readonly durationMs: number;
    }
  | {
      readonly type: "retry";
      /** How many paths wait. */
      readonly waiting: number;
      readonly delayMs: number;
      readonly code: string;
      readonly message: string;
    }
  | {
      readonly type: "refused";
      readonly storePath: string;
      readonly code: string;
      readonly message: string;
    }
  | {
      /** Deleted before it could be pushed. */
      readonly type: "gone";
      readonly storePath: string;
    }
  | { readonly type: "warning"; readonly message: string }
  | { readonly type: "draining"; readonly waiting: number; readonly atMostMs: number }
  | {
      readonly type: "stopped";
      readonly pushed: number;
      readonly refused: number;
      readonly unpushed: readonly string[];
    };

/** An event in one line, for people. */
export function describeWatchEvent(event: WatchEvent): string {
  switch (event.type) {
    case "watching":
      return `Watching ${event.storeDir}; what becomes valid goes to ${event.view} at ${event.server}`;
    case "pushed":
      return `pushed ${nameAll(event.storePaths)}: ${event.uploaded} uploaded (${formatSizeBytes(event.sentBytes)} sent), ${event.deduplicated} deduplicated, ${event.alreadyPresent} there already, ${event.skipped} skipped, in ${formatDurationMs(event.durationMs)}`;
    case "retry":
      return `${formatCount(event.waiting, "path")} wait, trying again in ${formatDurationMs(event.delayMs)}: ${event.message}`;
    case "refused":
      return `refused ${event.storePath}: ${event.message}`;
    case "gone":
      return `gone before it was pushed: ${event.storePath}`;
    case "warning":
      return event.message;
    case "draining":
      return `Stopping; ${formatCount(event.waiting, "path")} may be pushed for ${formatDurationMs(event.atMostMs)} more`;
    default:
      return `Stopped: ${formatCount(event.pushed, "path")} pushed, ${event.refused} refused, ${event.unpushed.length} left`;
  }
}

function nameAll(storePaths: readonly string[]): string {
  const [first = ""] = storePaths;
  return storePaths.length === 1 ? first : `${first} and ${storePaths.length - 1} more`;
}
