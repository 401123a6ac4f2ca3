import { CacheError, isCacheError, type Logger } from "@glorious/core";
import { parseViewName, type TokenGrant } from "@glorious/trust";

import { createSigningKey } from "../commit/new-signing-key.ts";
import type { CacheIndex, ViewRecord } from "../index/cache-index.ts";
import type { OverlayKeys } from "./overlay-keys.ts";
import type { Quotas } from "./quotas.ts";
import { baseOfOverlay } from "./read-chain.ts";
import type { ViewPolicy } from "./view-policy.ts";

/** The overlays of a server: made at their first write, bounded, and deleted some time after the last one. */
export interface Overlays {
  /**
   * The overlay that a grant writes to, made now if need be.
   *
   * @throws {CacheError} `FORBIDDEN` when the overlay is another branch's, `NOT_FOUND` when it is not there and the
   *   grant is none for it or its base is gone, `STORAGE_FULL` when its tenant has too many.
   */
  openForWriting(name: string, grant: TokenGrant | undefined): Promise<ViewRecord>;
  /**
   * Any view but an overlay has room: its own limit is kept by collecting it.
   *
   * @throws {CacheError} `STORAGE_FULL` when the overlay's quota or that of all its tenant's overlays is used up.
   */
  requireRoom(view: ViewRecord): Promise<void>;
}

export interface OverlaysOptions {
  readonly index: Pick<CacheIndex, "findView" | "createView" | "tenantUsage" | "touchOverlay">;
  readonly keys: OverlayKeys;
  readonly policy: ViewPolicy;
  readonly quotas: Quotas;
  readonly limits: OverlayLimits;
  readonly logger: Logger;
  readonly now: () => number;
}

/** What holds where the policy says nothing. */
export interface OverlayLimits {
  readonly overlayRetentionMs: number;
  readonly overlayMaxSizeBytes: number;
}

/** More are no use to anybody, and every one is a row that management lists. */
const MAX_OVERLAYS_PER_TENANT = 5000;
/** How exactly the last write is known. */
const TOUCH_RESOLUTION_MS = 600_000;

export function createOverlays(options: OverlaysOptions): Overlays {
  const { index, keys, policy, quotas, limits, logger, now } = options;

  const create = async (name: string, grant: TokenGrant, baseName: string): Promise<ViewRecord> => {
    const base = await index.findView(baseName);
    if (base === undefined) {
      throw new CacheError("NOT_FOUND", `There is no cache ${baseName} for ${name} to lie over`);
    }
    const { tenant } = parseViewName(name);
    if ((await index.tenantUsage(tenant)).overlays.views >= MAX_OVERLAYS_PER_TENANT) {
      throw full(`${MAX_OVERLAYS_PER_TENANT} overlays are all that one tenant may have`);
    }
    const { overlays } = policy.settingsOf(baseName);
    const createdAtMs = now();
    try {
      const view = await index.createView(
        {
          name,
          isPublic: false,
          storeDir: base.storeDir,
          priority: base.priority,
          upstreamCacheKeyNames: base.upstreamCacheKeyNames,
          retentionSeconds:
            overlays.retentionSeconds ?? Math.ceil(limits.overlayRetentionMs / 1000),
          maxSizeBytes: overlays.quotaBytes ?? limits.overlayMaxSizeBytes,
          compressionLevel: base.compressionLevel,
          pushesUpstream: base.pushesUpstream,
          createdAtMs,
          overlayOf: base.id,
          overlayKey: grant.overlayKey,
          overlayOwner: grant.principal,
          overlayRef: grant.ref,
        },
        createSigningKey(name, keys.secretKey(name), createdAtMs),
      );
      const { principal, run, ref } = grant;
      logger.info("created an overlay", { view: name, principal, run, ref });
      return view;
    } catch (error) {
      // Somebody else's first write was faster.
      const view = isCacheError(error, "CONFLICT") ? await index.findView(name) : undefined;
      if (view === undefined) throw error;
      return view;
    }
  };

  return {
    async openForWriting(name, grant) {
      let view = await index.findView(name);
      if (view === undefined) {
        const baseName = baseOfOverlay(name);
        if (baseName === undefined || grant?.write !== name || grant.overlayOf !== baseName) {
          throw new CacheError("NOT_FOUND", `There is no cache ${name}`, {
            hint: "It comes into being when a token that was granted it first writes to it.",
          });
        }
        view = await create(name, grant, baseName);
      }
      if (grant !== undefined && view.overlayKey !== grant.overlayKey) {
        throw new CacheError("FORBIDDEN", `${name} belongs to another branch or pull request`, {
          hint: "Two of them have the same short name; the other one is gone when its retention is over.",
        });
      }
      const nowMs = now();
      if (nowMs - (view.writtenAtMs ?? 0) >= TOUCH_RESOLUTION_MS) {
        await index.touchOverlay(view.id, nowMs);
      }
      return view;
    },
    async requireRoom(view) {
      if (view.overlayOf !== undefined) await quotas.requireOverlayRoom(view);
    },
  };
}

function full(why: string): CacheError {
  return new CacheError("STORAGE_FULL", `The overlay takes nothing more: ${why}`, {
    hint: "It is deleted some time after its last write; `flywheel overlay delete` does so at once.",
  });
}
