import type { Logger } from "@glorious/core";
import type { BlobStore } from "@glorious/storage";

import type { CacheIndex } from "../index/cache-index.ts";
import type { AffectedPath } from "../index/housekeeping-index.ts";
import { objectKey } from "../ingest/object-key.ts";
import {
  type ExamineDepth,
  type ExamineOptions,
  findObjectFault,
  type StoredObject,
} from "./object-fault.ts";

/** What an examination found. */
export type Verdict =
  | { readonly kind: "sound" }
  /** It is in quarantine now; `paths` are those of its paths that `CacheIndex.quarantineObject` names. */
  | { readonly kind: "bad"; readonly reason: string; readonly paths: readonly AffectedPath[] }
  /** The sweep has taken it meanwhile. */
  | { readonly kind: "gone" };

/** Takes bad objects out of service, so that their reads are misses and a new upload heals them. */
export interface Quarantine {
  /**
   * Looks at an object, and puts it in quarantine when it is bad: at once, in every view.
   *
   * An upload that stores it anew meanwhile wins, whatever was seen of the bytes before.
   */
  examine(object: StoredObject, depth: ExamineDepth, options?: ExamineOptions): Promise<Verdict>;
}

export interface QuarantineOptions {
  readonly index: CacheIndex;
  readonly store: BlobStore;
  readonly logger: Logger;
  readonly now: () => number;
  readonly onQuarantined: () => void;
}

export function createQuarantine(options: QuarantineOptions): Quarantine {
  const { index, store, logger, now, onQuarantined } = options;

  /** Tells one put of an object from the next. */
  const identify = async (fileHash: string): Promise<string> => {
    const stat = await store.stat(objectKey(fileHash));
    return `${stat?.sizeBytes} ${stat?.modifiedAtMs}`;
  };

  const examine = async (
    object: StoredObject,
    depth: ExamineDepth,
    how?: ExamineOptions,
  ): Promise<Verdict> => {
    const { fileHash } = object;
    const look = (): Promise<string | undefined> => findObjectFault(store, object, depth, how);
    if ((await look()) === undefined) return { kind: "sound" };
    const before = await identify(fileHash);
    // What was read may have been replaced under the reader's hands, or badly transferred.
    const reason = await look();
    if (reason === undefined) return { kind: "sound" };
    const known = await index.findObjectState(fileHash);
    if (known?.isReferenced !== true) return { kind: "gone" };
    const isNew = known.quarantinedAtMs === undefined;
    const paths = await index.quarantineObject(fileHash, { atMs: now(), reason });
    // An upload that put its bytes before the quarantine has found none to lift; one that puts them later does.
    if ((await identify(fileHash)) !== before && (await look()) === undefined) {
      await index.restoreObject(fileHash);
      return { kind: "sound" };
    }
    if (isNew) {
      onQuarantined();
      logger.error("put a stored object in quarantine", { fileHash, reason, paths: paths.length });
    }
    return { kind: "bad", reason, paths };
  };

  /** Many readers of one bad object make one finding. */
  const underWay = new Map<string, Promise<Verdict>>();
  return {
    examine(object, depth, how) {
      // Nobody else waits at this one's pace.
      if (how !== undefined) return examine(object, depth, how);
      const key = `${depth} ${object.fileHash}`;
      let examining = underWay.get(key);
      if (examining === undefined) {
        examining = examine(object, depth).finally(() => underWay.delete(key));
        underWay.set(key, examining);
      }
      return examining;
    },
  };
}
