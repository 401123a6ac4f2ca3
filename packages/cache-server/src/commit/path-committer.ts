import { setImmediate } from "node:timers/promises";

import { CacheError, type Logger } from "@glorious/core";

import type { Exchange } from "../http/exchange.ts";
import type { Offer } from "../index/adoption-index.ts";
import type {
  CacheIndex,
  CommitResult,
  NewPath,
  PathRecord,
  ViewRecord,
} from "../index/cache-index.ts";
import type { PrincipalFacts } from "../index/provenance-index.ts";
import { mergeClientSignatures } from "../index/signatures.ts";
import { toPrincipalFacts } from "../trust/principal-facts.ts";
import { formatSignedNarInfo, type NamedObject } from "./narinfo-text.ts";
import type { PathManifest } from "./path-manifest.ts";

/** A path to make visible, with the object the view holds its NAR as. */
export interface PathToCommit {
  readonly manifest: PathManifest;
  readonly object: NamedObject;
  /** Hashes of references that must be visible with it. */
  readonly requiredReferences: readonly string[];
}

/** Signs paths and makes them visible in a view. */
export interface PathCommitter {
  /**
   * Refuses, before its bytes are taken, a path that the view has with other bytes.
   *
   * @throws {CacheError} `CONFLICT`.
   */
  requireNoConflict(view: ViewRecord, manifest: PathManifest): Promise<void>;
  /** All the paths, or none; see {@link CacheIndex.commitPaths}. Conflicts are logged and counted. */
  commit(
    view: ViewRecord,
    paths: readonly PathToCommit[],
    options: CommitOptions,
  ): Promise<CommitResult>;
  /** One path of a protocol that knows no closures. @throws {CacheError} `CONFLICT`, `UNAVAILABLE`. */
  commitOne(
    view: ViewRecord,
    path: PathToCommit,
    author: Pick<CommitOptions, "createdBy" | "writer">,
  ): Promise<void>;
}

/** Who commits, as a caller's token says, and with what client. */
export function authorOf({
  caller: { claims },
  request,
}: Pick<Exchange, "caller" | "request">): Pick<CommitOptions, "createdBy" | "writer"> {
  const writer = claims && toPrincipalFacts(claims, request.headers["user-agent"]);
  return { createdBy: claims?.subject, writer };
}

/** Who commits, and on what. */
export interface CommitOptions {
  readonly createdBy: string | undefined;
  readonly writer?: PrincipalFacts | undefined;
  /** Ids of views whose paths satisfy references as well as the view's own do. */
  readonly presence: readonly number[];
  /** Where the paths are taken over from, which the view need not hold then. */
  readonly adopts?: Offer | undefined;
}

export interface PathCommitterOptions {
  readonly index: CacheIndex;
  readonly logger: Logger;
  readonly now: () => number;
  /** A view's keys changed while paths were signed with the older ones. */
  readonly onOutdated: (view: ViewRecord) => void;
  /** Told when paths came into a view that were not there. */
  readonly onCreated?: () => void;
}

const SIGNATURES_PER_TURN = 100;

export function createPathCommitter({
  index,
  logger,
  now,
  onOutdated,
  onCreated,
}: PathCommitterOptions): PathCommitter {
  const reportConflict = async (
    view: ViewRecord,
    manifest: PathManifest,
    existing: string,
  ): Promise<void> => {
    logger.warn("refused to rewrite a path", {
      view: view.name,
      storePath: manifest.storePath,
      narHash: existing,
      refusedNarHash: manifest.narHash,
    });
    await index.addCounts(view.id, { conflicts: 1 });
  };

  const commit: PathCommitter["commit"] = async (view, paths, options) => {
    const { createdBy, writer, presence, adopts } = options;
    // Before the keys: should they change in between, the re-signer finds these paths.
    const keyGeneration = await index.signingKeyGeneration(view.id);
    const keys = await index.listSigningKeys(view.id);
    const rows: NewPath[] = [];
    for (const [position, { manifest, object, requiredReferences }] of paths.entries()) {
      // Signing a large closure takes a second; others are served in between.
      if (position % SIGNATURES_PER_TURN === SIGNATURES_PER_TURN - 1) await setImmediate();
      const existing = await index.findPath([view.id], manifest.storePathHash);
      const merged = mergeSignatures(manifest, existing);
      rows.push({
        ...merged,
        fileHash: object.fileHash,
        requiredReferences,
        narInfo: formatSignedNarInfo(merged, object, { storeDir: view.storeDir, keys }),
        keyGeneration,
        createdAtMs: now(),
        createdBy,
      });
    }
    const result = await index.commitPaths(view.id, rows, { behind: presence, writer, adopts });
    if (result.kind === "committed") {
      if (result.created.length > 0) onCreated?.();
      if ((await index.signingKeyGeneration(view.id)) > keyGeneration) onOutdated(view);
      for (const { storePathHash, narHash } of result.conflicts) {
        const refused = rows.find((row) => row.storePathHash === storePathHash);
        if (refused !== undefined) {
          await reportConflict(view, { ...refused, narSize: 0 }, narHash);
        }
      }
    }
    return result;
  };

  return {
    commit,
    async requireNoConflict(view, manifest) {
      const existing = await index.findPath([view.id], manifest.storePathHash);
      if (existing === undefined || existing.narHash === manifest.narHash) return;
      await reportConflict(view, manifest, existing.narHash);
      throw conflict(view, manifest);
    },
    async commitOne(view, path, author) {
      const result = await commit(view, [path], { ...author, presence: [] });
      if (result.kind === "incomplete") {
        throw new CacheError(
          "UNAVAILABLE",
          `The NAR of ${path.manifest.storePath} expired meanwhile`,
          {
            hint: "Push the path again.",
          },
        );
      }
      if (result.conflicts.length > 0) throw conflict(view, path.manifest);
    },
  };
}

function conflict(view: ViewRecord, { storePath }: PathManifest): CacheError {
  return new CacheError(
    "CONFLICT",
    `${view.name} has ${storePath} already, with another NAR hash`,
    {
      hint: "The build is not reproducible; the first one stays. Delete the path to replace it.",
    },
  );
}

/** What clients signed before stays, as the index keeps it. */
function mergeSignatures(manifest: PathManifest, existing: PathRecord | undefined): PathManifest {
  if (existing === undefined || existing.narHash !== manifest.narHash) return manifest;
  return {
    ...manifest,
    signatures: mergeClientSignatures(existing.signatures, manifest.signatures),
  };
}
