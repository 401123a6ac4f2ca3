import type { Pacer } from "./pacer.ts";

/** A blob or value of a Bazel cache that a pass has found lost or damaged. It is absent from then on. */
export interface BazelScrubFinding {
  readonly kind: "blob" | "value";
  /** The blob's SHA-256, hexadecimal, or the value's key. */
  readonly name: string;
  readonly sizeBytes: number;
  readonly reason: string;
  /** Instance names that had it. */
  readonly instances: readonly string[];
}

/** How far a pass through all Bazel data is, and what it has found. */
export interface BazelScrubProgress {
  /** From 0 to 1. */
  fraction: number;
  /** Blobs and values whose bytes were read, and these bytes. */
  scanned: number;
  bytes: number;
  /** The bad ones, of which `bad` holds the first. */
  badTotal: number;
  readonly bad: BazelScrubFinding[];
  /** Those that the disk could not tell about, whatever their state. */
  unanswered: number;
}

/** How a pass goes about it. */
export interface BazelScrubWork {
  /** What was checked, or stored, since then is looked for and not read. */
  readonly checkedBeforeMs: number;
  readonly pace: Pacer;
  readonly signal: AbortSignal;
  /** Told of everything whose bytes were read. */
  readonly onScanned: (bytes: number) => void;
}

/** Goes once through all Bazel data, and makes absent what is lost or damaged. */
export type ScrubBazel = (progress: BazelScrubProgress, work: BazelScrubWork) => Promise<void>;

export function beginBazelProgress(): BazelScrubProgress {
  return { fraction: 0, scanned: 0, bytes: 0, badTotal: 0, bad: [], unanswered: 0 };
}
