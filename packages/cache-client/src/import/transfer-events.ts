import type { CacheError } from "@glorious/core";

import type { PushEvent } from "../push-events.ts";

/** Something an import or export has to tell while it runs. */
export type TransferEvent =
  | PushEvent
  | {
      readonly type: "failed";
      /** A store path, or its hash where no more is known. */
      readonly path: string;
      readonly error: CacheError;
    };

/** What an import or export did. */
export interface TransferSummary {
  /** Paths looked at: those asked for, and what they refer to. */
  readonly paths: number;
  /** Paths that are where they were wanted, and were not before. */
  readonly added: number;
  /** Paths that were there. */
  readonly alreadyPresent: number;
  /** Wrong, missing, or left out because something they refer to is. */
  readonly failed: number;
  /** Paths that are referred to and that the source does not have: another cache's. */
  readonly elsewhere: number;
  /** Bytes of the NARs added, uncompressed. */
  readonly narBytes: number;
  /** Bytes of them as they were sent or written. */
  readonly fileBytes: number;
  readonly durationMs: number;
}
