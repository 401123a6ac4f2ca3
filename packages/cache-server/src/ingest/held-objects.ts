import type { Quarantine } from "../housekeeping/quarantine.ts";
import type { CacheIndex, HoldingRecord, ObjectRecord } from "../index/cache-index.ts";

/** What stands between an object's bytes and a view that holds them. */
export interface HeldObjects {
  /** What the view holds, if its bytes are really there: a lost object counts as absent. */
  findSound(viewId: number, narHash: string | undefined): Promise<HoldingRecord | undefined>;
  /** Keeps a holding for as long as a first upload would be: its path may still be minutes away. */
  holdOn(viewId: number, holding: HoldingRecord): Promise<ObjectRecord>;
  /** Tells the sweep to leave bytes alone that are about to become visible. @throws the signal's reason. */
  reserve(object: ObjectRecord, signal: AbortSignal): Promise<void>;
  /** Ends what was wrong with an object whose bytes have just been put, in every view. */
  restore(object: ObjectRecord): Promise<void>;
}

export interface HeldObjectsOptions {
  readonly index: CacheIndex;
  readonly quarantine: Quarantine;
  readonly now: () => number;
  /** How long a NAR, and the file it came as, wait for their path. */
  readonly pendingMaxAgeMs: number;
}

export function createHeldObjects({
  index,
  quarantine,
  now,
  pendingMaxAgeMs,
}: HeldObjectsOptions): HeldObjects {
  return {
    async findSound(viewId, narHash) {
      const holding = narHash === undefined ? undefined : await index.findHolding(viewId, narHash);
      if (holding === undefined) return undefined;
      const { kind } = await quarantine.examine(holding, "size");
      return kind === "sound" ? holding : undefined;
    },
    holdOn: (viewId, { narHash, fileHash }) =>
      index.holdNar({ viewId, narHash, fileHash, expiresAtMs: now() + pendingMaxAgeMs }),
    async reserve(object, signal) {
      while ((await index.reserveObject(object, now())) === "busy") {
        signal.throwIfAborted();
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    async restore({ fileHash }) {
      const known = await index.findObjectState(fileHash);
      if (known?.quarantinedAtMs !== undefined) await index.restoreObject(fileHash);
    },
  };
}
