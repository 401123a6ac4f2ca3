import { CacheError } from "@glorious/core";
import { parseViewName } from "@glorious/trust";

import type { CacheIndex, TenantUsage, ViewRecord } from "../index/cache-index.ts";
import type { QuotaGroup, ViewPolicy } from "./view-policy.ts";

/**
 * What tenants may hold, apart by trust level, so that overlays never take the room of what is trusted. Nix's and Bazel's
 * data count together, and a parent's quota counts what its children hold.
 */
export interface Quotas {
  /** @throws {CacheError} `STORAGE_FULL` when an overlay's quota, or that of all overlays it counts to, is used up. */
  requireOverlayRoom(overlay: ViewRecord): Promise<void>;
  /**
   * How many bytes a view may hold of one plane. Of several that hold too much together each keeps its even part, and what
   * the others leave of theirs; `Infinity` when no quota is about it.
   */
  capOf(view: ViewRecord, plane: Plane): Promise<number>;
  /** How many bytes a view may take in until the trusted quotas it counts to are used up. */
  trustedRoomOf(view: ViewRecord): Promise<number>;
}

export type Plane = "nix" | "bazel";

/** What the Bazel cache holds. */
export interface BazelUsage {
  usageOfView(view: ViewRecord): Promise<number>;
  usageOfTenant(tenant: string | undefined): Promise<TenantUsage>;
}

export interface QuotasOptions {
  readonly index: Pick<CacheIndex, "viewBytes" | "tenantUsage">;
  readonly bazel: BazelUsage | undefined;
  readonly policy: ViewPolicy;
  readonly now: () => number;
  /** For all overlays of a tenant, where the policy says nothing. */
  readonly overlayMaxTotalSizeBytes: number;
}

type Level = keyof TenantUsage;

interface Measured {
  readonly bytes: number;
  readonly holders: number;
}

const LATELY_MS = 2000;

export function createQuotas(options: QuotasOptions): Quotas {
  const { index, bazel, policy, now, overlayMaxTotalSizeBytes } = options;
  const lately = new Map<
    string,
    { readonly untilMs: number; readonly measured: Promise<Measured> }
  >();

  /** The quotas that a view counts to, with what they are about. */
  const quotasOf = (view: ViewRecord): { groups: readonly QuotaGroup[]; level: Level } => {
    const { tenant } = parseViewName(view.name);
    const [own = { tenants: [tenant] }, ...parents] = policy.quotasOf(tenant);
    const overlayBytes = own.overlayBytes ?? overlayMaxTotalSizeBytes;
    const level = view.overlayOf === undefined ? "own" : "overlays";
    return { groups: [{ ...own, overlayBytes }, ...parents], level };
  };

  const measure = async ({ tenants }: QuotaGroup, level: Level): Promise<Measured> => {
    let bytes = 0;
    let holders = 0;
    for (const tenant of tenants) {
      for (const usage of [await index.tenantUsage(tenant), await bazel?.usageOfTenant(tenant)]) {
        bytes += usage?.[level].bytes ?? 0;
        holders += usage?.[level].holders ?? 0;
      }
    }
    return { bytes, holders };
  };

  /** The same for all views of a tenant, one after the other: each alone would go through all. */
  const measureLately = (group: QuotaGroup, level: Level): Promise<Measured> => {
    const key = JSON.stringify([level, group.tenants]);
    const known = lately.get(key);
    if (known !== undefined && now() < known.untilMs) return known.measured;
    const measured = measure(group, level);
    lately.set(key, { untilMs: now() + LATELY_MS, measured });
    return measured;
  };

  const limitOf = (group: QuotaGroup, level: Level): number =>
    (level === "own" ? group.trustedBytes : group.overlayBytes) ?? Infinity;

  const bazelBytesOf = async (view: ViewRecord): Promise<number> =>
    (await bazel?.usageOfView(view)) ?? 0;

  return {
    async requireOverlayRoom(overlay) {
      const { id, name, maxSizeBytes = Infinity } = overlay;
      if ((await index.viewBytes(id)) + (await bazelBytesOf(overlay)) >= maxSizeBytes) {
        throw full(`${name} holds the ${maxSizeBytes} bytes that it may`);
      }
      const { groups, level } = quotasOf(overlay);
      for (const group of groups) {
        const limit = limitOf(group, level);
        if (limit === Infinity || (await measure(group, level)).bytes < limit) continue;
        throw full(`the overlays it counts to hold the ${limit} bytes that they may together`);
      }
    },

    async capOf(view, plane) {
      const { groups, level } = quotasOf(view);
      const nixBytes = await index.viewBytes(view.id);
      const ownBytes = plane === "nix" ? nixBytes : await bazelBytesOf(view);
      let cap = Infinity;
      if (level === "overlays" && plane === "bazel") {
        cap = Math.max(0, (view.maxSizeBytes ?? Infinity) - nixBytes);
      }
      for (const group of groups) {
        const limit = limitOf(group, level);
        if (limit === Infinity) continue;
        const { bytes, holders } = await measureLately(group, level);
        cap = Math.min(cap, evenPart({ ownBytes, bytes, holders, limit }));
      }
      return cap;
    },

    async trustedRoomOf(view) {
      let room = Infinity;
      for (const group of quotasOf(view).groups) {
        const limit = limitOf(group, "own");
        if (limit === Infinity) continue;
        room = Math.min(room, limit - (await measure(group, "own")).bytes);
      }
      return Math.max(0, room);
    },
  };
}

/**
 * What one of several holders may keep of a limit: an even part, or what the others leave. Whoever keeps to it one after
 * the other, in any order, ends within the limit, and nobody gives more than the others force them to.
 */
export function evenPart(of: {
  readonly ownBytes: number;
  /** Of all, its own among them. */
  readonly bytes: number;
  readonly holders: number;
  readonly limit: number;
}): number {
  const { ownBytes, bytes, holders, limit } = of;
  return Math.floor(Math.max(limit / Math.max(1, holders), limit - (bytes - ownBytes)));
}

function full(why: string): CacheError {
  return new CacheError("STORAGE_FULL", `The overlay takes nothing more: ${why}`, {
    hint: "It is deleted some time after its last write; `flywheel overlay delete` does so at once.",
  });
}
