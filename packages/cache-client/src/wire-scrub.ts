import * as v from "valibot";

/** What a scrub is to do. */
export interface ScrubRequest {
  /** Leave out what was checked within this time; default nothing. */
  readonly maxAgeSeconds?: number | undefined;
  /** Goes on with the scrub that had this bound, also after the server was started anew. */
  readonly checkedBefore?: string | undefined;
  /** How fast to read; default as the server is configured. */
  readonly bytesPerSecond?: number | undefined;
  /** How long the answer may wait for the end; default not at all. */
  readonly waitSeconds?: number | undefined;
}

/** A path that a bad object costs. */
export interface AffectedPath {
  readonly view: string;
  readonly storePath: string;
}

/** What a scrub has done to Bazel's data. */
export interface BazelScrubReport {
  /** Blobs and values whose bytes were read, and these bytes. */
  readonly scanned: number;
  readonly bytes: number;
  readonly badTotal: number;
  /** Some of the bad ones; they are absent since then. */
  readonly bad: ReadonlyArray<{
    readonly kind: "blob" | "value";
    /** The blob's SHA-256, or the value's key. */
    readonly name: string;
    readonly sizeBytes: number;
    readonly reason: string;
    /** Instance names that had it. */
    readonly instances: readonly string[];
  }>;
  /** Those that the server's disk could not tell about. */
  readonly unanswered: number;
}

/** How far a scrub is, and what it has found. Times are in ISO 8601. */
export interface ScrubReport {
  readonly state: "running" | "done" | "stopped" | "failed";
  readonly startedAt: string;
  /** What was not checked since then is read. */
  readonly checkedBefore: string;
  /** From 0 to 1. */
  readonly fraction: number;
  /** Objects whose bytes were read, and these bytes. */
  readonly scanned: number;
  readonly bytes: number;
  readonly badTotal: number;
  /** Some of the bad objects. */
  readonly bad: ReadonlyArray<{
    readonly fileHash: string;
    readonly reason: string;
    readonly paths: readonly AffectedPath[];
  }>;
  /** Objects that came back from quarantine. */
  readonly restored: number;
  /** Objects that the server's disk could not tell about. */
  readonly unanswered: number;
  /** What it did to Bazel's data; absent from a server that does not scrub that. */
  readonly bazel?: BazelScrubReport | undefined;
  /** Files that the server's index does not know; only at the end. */
  readonly orphans?: { readonly files: number; readonly bytes: number } | undefined;
}

/** What a server's scrubs have come to. */
export interface ScrubState {
  /** The scrub under way, or the last one since the server's start. */
  readonly pass?: ScrubReport | undefined;
  /** When one last went through everything. */
  readonly lastFullPassAt?: string | undefined;
  /** Objects in quarantine. */
  readonly quarantined: number;
}

/** An object that is not served any more, because its bytes are lost or damaged. */
export interface QuarantinedObject {
  readonly fileHash: string;
  readonly fileSize: number;
  readonly reason: string;
  readonly quarantinedAt: string;
  readonly pathsTotal: number;
  /** Some of the paths it costs. */
  readonly paths: readonly AffectedPath[];
}

/** What is in quarantine. */
export interface QuarantineList {
  readonly total: number;
  /** The longest there first; the first of them. */
  readonly objects: readonly QuarantinedObject[];
}

const Path = v.object({ view: v.string(), storePath: v.string() });

export const ScrubReportSchema: v.GenericSchema<ScrubReport> = v.object({
  state: v.picklist(["running", "done", "stopped", "failed"]),
  startedAt: v.string(),
  checkedBefore: v.string(),
  fraction: v.number(),
  scanned: v.number(),
  bytes: v.number(),
  badTotal: v.number(),
  bad: v.array(v.object({ fileHash: v.string(), reason: v.string(), paths: v.array(Path) })),
  restored: v.number(),
  unanswered: v.number(),
  bazel: v.optional(
    v.object({
      scanned: v.number(),
      bytes: v.number(),
      badTotal: v.number(),
      bad: v.array(
        v.object({
          kind: v.picklist(["blob", "value"]),
          name: v.string(),
          sizeBytes: v.number(),
          reason: v.string(),
          instances: v.array(v.string()),
        }),
      ),
      unanswered: v.number(),
    }),
  ),
  orphans: v.optional(v.object({ files: v.number(), bytes: v.number() })),
});

export const ScrubStateSchema: v.GenericSchema<ScrubState> = v.object({
  pass: v.optional(ScrubReportSchema),
  lastFullPassAt: v.optional(v.string()),
  quarantined: v.number(),
});

export const QuarantineListSchema: v.GenericSchema<QuarantineList> = v.object({
  total: v.number(),
  objects: v.array(
    v.object({
      fileHash: v.string(),
      fileSize: v.number(),
      reason: v.string(),
      quarantinedAt: v.string(),
      pathsTotal: v.number(),
      paths: v.array(Path),
    }),
  ),
});

/** The query of a request for a scrub. */
export function formatScrubRequest(request: ScrubRequest): string {
  const query = new URLSearchParams();
  const entries = {
    maxAge: request.maxAgeSeconds,
    checkedBefore: request.checkedBefore,
    bytesPerSecond: request.bytesPerSecond,
    wait: request.waitSeconds,
  };
  for (const [name, value] of Object.entries(entries)) {
    if (value !== undefined) query.set(name, String(value));
  }
  return query.toString();
}
