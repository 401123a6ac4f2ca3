import { access, readdir, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";

import { CacheError, type Logger } from "@glorious/core";
import { type FsyncPolicy, makeDurableDirectory } from "@glorious/storage";
import { parseViewName } from "@glorious/trust";

import type { ServerSettings } from "../config/settings.ts";
import type { ScrubBazel } from "../housekeeping/bazel-scrub.ts";
import type { CacheIndex, TenantUsage, ViewRecord } from "../index/cache-index.ts";
import type { BazelUsage } from "../trust/quotas.ts";
import { MemoryPool } from "./memory/memory-pool.ts";
import type { Actor } from "./store/actor.ts";
import type { ActionAdoption } from "./store/adopt-actions.ts";
import type { BazelScope, BazelStore } from "./store/bazel-store.ts";
import type { ViewLimit } from "./store/eviction.ts";
import { type BazelLimits, openTenantStore } from "./store/tenant-store.ts";

/** The Bazel data of all tenants, each in a directory and an index of its own. */
export interface BazelPlane extends AsyncDisposable {
  /** What an instance name holds, for whoever reads and writes through it. */
  openScope(view: ViewRecord, instance: string, actor?: Actor): Promise<BazelScope>;
  /** Does something with the data of every tenant, those included that nobody has asked for yet. */
  forEachStore(visit: (store: BazelStore) => Promise<void>): Promise<void>;
  /** The store of a view's tenant. */
  openStore(view: ViewRecord): Promise<BazelStore>;
  readonly usage: BazelUsage;
  /** Takes over what merge queues' runs wrote into overlays of a view. */
  adopt(
    base: ViewRecord,
    adoption: Pick<ActionAdoption, "key" | "actor" | "signal" | "onAdopted">,
  ): Promise<void>;
  /** Keeps to quotas from now on: says what a view may hold at most, beside its own limit. */
  limitViews(capOf: (view: ViewRecord) => Promise<number>): void;
  /** Begins to make room, and to delete what views held that are gone, every while. */
  start(): void;
  /** Does once what `start` does every while. */
  housekeep(): Promise<void>;
  /** Goes once through the data of all tenants, those included that nobody has asked for yet. */
  readonly scrub: ScrubBazel;
  /** Blobs and values that turned out to be damaged or gone, since the server's start. */
  readonly lostTotal: number;
  /** What all tenants remember of what was used lately. */
  readonly memory: Pick<MemoryPool, "totalBytes" | "usedBytes">;
}

export interface BazelPlaneOptions {
  /** Holds a directory for each tenant. */
  readonly directory: string;
  readonly index: Pick<CacheIndex, "listRevocations" | "listViews">;
  readonly limits: BazelLimits;
  readonly fsync: FsyncPolicy;
  readonly logger: Logger;
  readonly now: () => number;
  /** Whether it is recorded who was given what. */
  readonly recordsReads: boolean;
  /** How long it is kept who was given what. */
  readonly provenanceMaxAgeMs: number;
}

/** No tenant has an underscore in its name. */
const DEFAULT_TENANT = "_default";
const HOUSEKEEPING_INTERVAL_MS = 30_000;
/** More than anybody makes. */
const MAX_REVOCATIONS = 1_000_000;
const LATELY_MS = 2000;
const NOTHING = { views: 0, holders: 0, bytes: 0 };

export function createBazelPlane(options: BazelPlaneOptions): BazelPlane {
  const { directory, index, limits, fsync, logger, now, provenanceMaxAgeMs } = options;
  const memory = new MemoryPool(limits.memoryBytes);
  const opening = new Map<string, Promise<BazelStore>>();
  const opened = new Map<string, BazelStore>();
  /** Tenants whose data is being deleted. */
  const deleting = new Map<string, Promise<void>>();
  /** A tenant may have thousands of views. */
  const lately = new Map<
    string,
    { readonly untilMs: number; readonly usage: Promise<TenantUsage> }
  >();
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> | undefined;
  let isClosed = false;
  let lostTotal = 0;

  let capOf = async (_view: ViewRecord): Promise<number> => Infinity;

  const listViewsOf = async (tenant: string): Promise<ViewRecord[]> =>
    (await index.listViews()).filter((view) => tenantOf(view.name) === tenant);

  const viewsOf = async (tenant: string): Promise<ReadonlyMap<number, ViewLimit>> => {
    const viewLimits = new Map<number, ViewLimit>();
    for (const view of await listViewsOf(tenant)) {
      const cap = Math.min(view.maxSizeBytes ?? Infinity, await capOf(view));
      const maxBytes = cap === Infinity ? undefined : cap;
      viewLimits.set(view.id, { maxBytes, isOverlay: view.overlayOf !== undefined });
    }
    return viewLimits;
  };

  const open = async (tenant: string): Promise<BazelStore> => {
    await deleting.get(tenant);
    if (isClosed) throw new CacheError("UNAVAILABLE", "The server is stopping");
    await makeDurableDirectory(directory, fsync);
    const store = await openTenantStore({
      directory: join(directory, tenant, "bazel"),
      limits,
      memory,
      fsync,
      logger,
      now,
      views: () => viewsOf(tenant),
      onLost: () => (lostTotal += 1),
      recordsReads: options.recordsReads,
      revocations: async () =>
        (await index.listRevocations(MAX_REVOCATIONS))
          .filter(({ liftedAtMs }) => liftedAtMs === undefined)
          .toReversed(),
    });
    opened.set(tenant, store);
    return store;
  };

  const openTenant = async (tenant: string): Promise<BazelStore> => {
    const known = opened.get(tenant);
    if (known !== undefined) return known;
    let store = opening.get(tenant);
    if (store === undefined) {
      store = open(tenant);
      opening.set(tenant, store);
      // A failure is not for ever: the next who asks tries again.
      store.catch(() => opening.delete(tenant));
    }
    return await store;
  };
  /** Of a tenant that has Bazel data. */
  const findStore = async (tenant: string): Promise<BazelStore | undefined> => {
    if (isClosed) return undefined;
    const known = opened.get(tenant);
    if (known !== undefined) return known;
    const hasData = await access(join(directory, tenant, "bazel")).then(
      () => true,
      () => false,
    );
    return hasData ? await openTenant(tenant) : undefined;
  };
  const measureTenant = async (tenant: string): Promise<TenantUsage> => {
    const usage = { own: { ...NOTHING }, overlays: { ...NOTHING } };
    const store = await findStore(tenant);
    if (store === undefined) return usage;
    for (const view of await listViewsOf(tenant)) {
      const { storedBytes } = await store.usageOf(view.id);
      const level = usage[view.overlayOf === undefined ? "own" : "overlays"];
      level.views += 1;
      level.holders += storedBytes > 0 ? 1 : 0;
      level.bytes += storedBytes;
    }
    return usage;
  };
  const openStore = (view: ViewRecord): Promise<BazelStore> => openTenant(tenantOf(view.name));

  const deleteTenant = async (tenant: string): Promise<void> => {
    const store = await opening.get(tenant);
    opening.delete(tenant);
    opened.delete(tenant);
    await store?.[Symbol.asyncDispose]();
    await rm(join(directory, tenant, "bazel"), { recursive: true, force: true });
    // It may hold what is not Bazel's.
    await rmdir(join(directory, tenant)).catch(() => {});
    logger.info("deleted the Bazel data of a tenant without views", { tenant });
  };

  const housekeep = async (): Promise<void> => {
    const tenants = await readdir(directory).catch(() => []);
    for (const tenant of tenants) {
      if (isClosed) return;
      if ((await listViewsOf(tenant)).length > 0) {
        const store = opened.get(tenant);
        await store?.evict();
        await store?.provenance.forget(now() - provenanceMaxAgeMs);
        continue;
      }
      const done = deleteTenant(tenant).finally(() => deleting.delete(tenant));
      deleting.set(tenant, done);
      await done;
    }
  };

  const forEachStore = async (
    visit: (store: BazelStore, at: number, count: number) => Promise<void>,
  ): Promise<void> => {
    // One that is opened for the first time may have no directory yet.
    const known = new Set([...(await readdir(directory).catch(() => [])), ...opening.keys()]);
    for (const [at, tenant] of [...known].entries()) {
      if ((await listViewsOf(tenant)).length === 0) continue;
      const store = await openTenant(tenant);
      try {
        await visit(store, at, known.size);
      } catch (error) {
        // A tenant whose last view was deleted meanwhile.
        if (opened.get(tenant) === store) throw error;
      }
    }
  };

  const scrub: ScrubBazel = async (progress, work) => {
    await forEachStore((store, at, count) =>
      store.scrub(progress, work, (fraction) => {
        progress.fraction = (at + fraction) / count;
      }),
    );
    progress.fraction = 1;
  };

  return {
    scrub,
    memory,
    get lostTotal() {
      return lostTotal;
    },
    async openScope(view, instance, actor) {
      return (await openStore(view)).scope(view.id, instance, actor);
    },
    forEachStore,
    openStore,
    usage: {
      async usageOfView(view) {
        const store = await findStore(tenantOf(view.name));
        return store === undefined ? 0 : (await store.usageOf(view.id)).storedBytes;
      },
      usageOfTenant(name) {
        const tenant = name ?? DEFAULT_TENANT;
        const known = lately.get(tenant);
        if (known !== undefined && now() < known.untilMs) return known.usage;
        const usage = measureTenant(tenant);
        lately.set(tenant, { untilMs: now() + LATELY_MS, usage });
        return usage;
      },
    },
    async adopt(base, adoption) {
      const tenant = tenantOf(base.name);
      const store = await findStore(tenant);
      const views = await listViewsOf(tenant);
      const overlays = new Map(
        views.filter(({ overlayOf }) => overlayOf === base.id).map(({ id, name }) => [id, name]),
      );
      await store?.adopt({ ...adoption, base, overlays });
    },
    limitViews(given) {
      capOf = given;
    },
    housekeep,
    start() {
      timer = setInterval(() => {
        running ??= housekeep()
          .catch((error: unknown) => {
            logger.error("Housekeeping of the Bazel data failed", { error });
          })
          .finally(() => (running = undefined));
      }, HOUSEKEEPING_INTERVAL_MS);
      timer.unref();
    },
    async [Symbol.asyncDispose]() {
      isClosed = true;
      clearInterval(timer);
      await running;
      await Promise.allSettled(opening.values());
      await Promise.all([...opened.values()].map((store) => store[Symbol.asyncDispose]()));
    },
  };
}

/** What the settings allow each tenant. */
export function bazelLimits(settings: ServerSettings): BazelLimits {
  return {
    maxBytes: settings.bazelMaxSizeBytes,
    maxBlobBytes: settings.bazelMaxBlobSizeBytes,
    ttlMs: settings.bazelTtlMs,
    memoryBytes: settings.bazelMemoryBytes,
  };
}

const tenants = new Map<string, string>();

/** The directory name of a view's tenant. */
function tenantOf(viewName: string): string {
  let tenant = tenants.get(viewName);
  if (tenant === undefined) {
    tenant = parseViewName(viewName).tenant ?? DEFAULT_TENANT;
    // As many as there are views; callers that make names up come no further than the trust gate.
    tenants.set(viewName, tenant);
  }
  return tenant;
}
