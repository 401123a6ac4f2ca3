import type { CacheError } from "@glorious/core";

/** Something a push has to tell while it runs. */
export type PushEvent =
  | {
      readonly type: "planned";
      /** All paths given. */
      readonly paths: number;
      readonly skipped: number;
      readonly alreadyPresent: number;
      /** Paths the cache lacks. */
      readonly missing: number;
      /** NARs that will be uploaded, and their bytes uncompressed. */
      readonly uploads: number;
      readonly uploadBytes: number;
    }
  | ({ readonly type: "skipped" } & SkippedPaths)
  | {
      readonly type: "upload-started";
      readonly storePath: string;
      readonly narSize: number;
      /** 1 for the first try. */
      readonly attempt: number;
    }
  | {
      readonly type: "upload-progress";
      readonly storePath: string;
      readonly narSize: number;
      /** Bytes of the NAR read so far by this attempt. */
      readonly narBytes: number;
      /** Bytes on the wire so far by this attempt. */
      readonly sentBytes: number;
    }
  | {
      readonly type: "upload-done";
      readonly storePath: string;
      readonly narSize: number;
      readonly sentBytes: number;
      /** `deduplicated`: the cache had it after all; `conflict`: it keeps another one. */
      readonly result: "uploaded" | "deduplicated" | "conflict";
      readonly durationMs: number;
    }
  | {
      readonly type: "retry";
      /** What is repeated: `upload of /nix/store/…`. */
      readonly what: string;
      /** Attempts that have failed. */
      readonly attempt: number;
      readonly delayMs: number;
      readonly error: CacheError;
    }
  | { readonly type: "warning"; readonly message: string }
  | {
      readonly type: "committed";
      /** Paths that became visible. */
      readonly created: number;
      readonly unchanged: number;
      readonly conflicts: number;
    };

/** Paths left out of a push for one reason. */
export interface SkippedPaths {
  /** For people: `12 paths skipped: signed by cache.nixos.org-1`. */
  readonly reason: string;
  /** The upstream key whose signature they carry. */
  readonly keyName?: string;
  /** The upstream of the view that has them, as the server says. */
  readonly upstream?: string;
  readonly storePaths: readonly string[];
}

/** A path of which the cache keeps another content. */
export interface PushConflict {
  readonly storePath: string;
  /** What we have, SHA-256 in hex. */
  readonly narHash: string;
  /** What the cache has; unknown when it does not tell. */
  readonly existingNarHash?: string;
}

/** A path that was left out of a push. */
export interface FailedPath {
  readonly storePath: string;
  readonly error: CacheError;
}

/** What a push did. `paths` = `skipped` paths + `alreadyPresent` + `missing`. */
export interface PushSummary {
  /** All paths given, each counted once. */
  readonly paths: number;
  /** Paths whose NAR this push uploaded. */
  readonly uploaded: number;
  /** Missing paths whose NAR the cache already had, or got from another path of this push. */
  readonly deduplicated: number;
  readonly alreadyPresent: number;
  /** Paths the cache lacked when it was first asked. */
  readonly missing: number;
  readonly skipped: readonly SkippedPaths[];
  readonly conflicts: readonly PushConflict[];
  /** Bytes of the uploaded NARs, uncompressed. */
  readonly narBytes: number;
  /** Bytes of them on the wire, failed attempts not counted. */
  readonly sentBytes: number;
  readonly durationMs: number;
  /** Nothing was sent; `missing` tells what would have been. */
  readonly dryRun: boolean;
}
