import { CacheError } from "@glorious/core";
import { isStoreDir, type SecretKey } from "@glorious/nix-store";
import { parseViewName } from "@glorious/trust";
import * as v from "valibot";

import { createSigningKey, parseKeypair } from "../commit/new-signing-key.ts";
import { AtticError } from "../http/attic-error.ts";
import type { Exchange } from "../http/exchange.ts";
import { readJsonBody } from "../http/json-body.ts";
import type { Route } from "../http/router.ts";
import { sendEmpty, sendJson } from "../http/send.ts";
import type { ViewChanges, ViewRecord } from "../index/cache-index.ts";
import type { ReadView } from "../trust/read-chain.ts";
import { baseUrl, bazelEndpoints } from "./request-url.ts";
import type { RouteServices } from "./route-services.ts";
import { upstreamKeysOf } from "./upstream-keys.ts";
import { requirePrivate } from "./upstream-secrecy.ts";

const MAX_BODY_BYTES = 2 ** 20;

const Int32 = v.pipe(v.number(), v.integer(), v.minValue(-(2 ** 31)), v.maxValue(2 ** 31 - 1));
const Uint32 = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(2 ** 32 - 1));
const Keypair = v.union(
  [v.literal("Generate"), v.object({ Keypair: v.string() })],
  'Expected "Generate" or {"Keypair": "name:base64"}',
);
const KeyNames = v.array(v.pipe(v.string(), v.maxLength(256)));
const RetentionPeriod = v.union(
  [v.literal("Global"), v.object({ Period: Uint32 })],
  'Expected "Global" or {"Period": seconds}',
);
const CreateCacheRequest = v.object({
  keypair: Keypair,
  is_public: v.boolean(),
  store_dir: v.string(),
  priority: Int32,
  upstream_cache_key_names: KeyNames,
});
const ConfigureRequest = v.object({
  keypair: v.nullish(Keypair),
  is_public: v.nullish(v.boolean()),
  store_dir: v.nullish(v.string()),
  priority: v.nullish(Int32),
  upstream_cache_key_names: v.nullish(KeyNames),
  retention_period: v.nullish(RetentionPeriod),
});

/** Attic's management of caches: `cache-config` of all four methods. */
export function atticConfigRoutes(services: RouteServices): Route[] {
  const { index, gate, limits, now } = services;

  const keysOf = async ({ id, name }: ReadView): Promise<string[]> =>
    id === undefined
      ? [services.overlayKeys.publicKey(name)]
      : (await index.listSigningKeys(id)).map((key) => key.publicKey);

  const get = async (exchange: Exchange): Promise<void> => {
    const { view, views } = await gate.requireChain(exchange.caller, exchange.params["view"] ?? "");
    const base = baseUrl(exchange.request, services.publicUrl);
    const publicKeys = await keysOf(view);
    // Whoever reads through this view meets the signatures of those behind it.
    const keysBehind = await Promise.all(views.filter(({ id }) => id !== view.id).map(keysOf));
    const upstreamKeys = await upstreamKeysOf(index, views);
    sendJson(exchange, {
      substituter_endpoint: `${base}${view.name}`,
      api_endpoint: base,
      public_key: publicKeys.at(-1),
      is_public: view.isPublic,
      store_dir: view.storeDir,
      priority: view.priority,
      upstream_cache_key_names: view.upstreamCacheKeyNames,
      retention_period:
        view.retentionSeconds === undefined ? "Global" : { Period: view.retentionSeconds },
      flywheel: {
        version: 1,
        server: services.version,
        api: `${base}_flywheel/v1/`,
        publicKeys: [...publicKeys, ...keysBehind.flat(), ...upstreamKeys],
        maxConcurrentUploads: limits.maxConcurrentUploads,
        compressionLevel: view.compressionLevel ?? limits.compressionLevel,
        ...(view.maxSizeBytes === undefined ? {} : { maxSizeBytes: view.maxSizeBytes }),
        uploadParts: { thresholdBytes: limits.partThresholdBytes, partBytes: limits.partBytes },
        ...(services.bazel === undefined ? {} : { bazel: bazelEndpoints(base, view.name) }),
      },
    });
  };

  const create = async (exchange: Exchange): Promise<void> => {
    const name = exchange.params["view"] ?? "";
    gate.requirePermission(exchange.caller, name, "create");
    if (parseViewName(name).overlay !== undefined) {
      throw new CacheError("INVALID", `${name} is the name of an overlay, which nobody creates`, {
        hint: "It comes into being when a token that was granted it first writes to it.",
      });
    }
    const body = await readJsonBody(exchange, CreateCacheRequest, {
      ...limits,
      maxSizeBytes: MAX_BODY_BYTES,
    });
    await createView(services, {
      name,
      isPublic: body.is_public,
      storeDir: requireStoreDir(body.store_dir),
      priority: body.priority,
      upstreamCacheKeyNames: body.upstream_cache_key_names,
      ...(body.keypair === "Generate" ? {} : { secretKey: parseKeypair(body.keypair.Keypair) }),
    });
    sendEmpty(exchange, 200);
  };

  const configure = async (exchange: Exchange): Promise<void> => {
    const name = exchange.params["view"] ?? "";
    const view = await gate.requireView(exchange.caller, name, "configure");
    const body = await readJsonBody(exchange, ConfigureRequest, {
      ...limits,
      maxSizeBytes: MAX_BODY_BYTES,
    });
    const changes = toChanges(body);
    const keypair = body.keypair ?? undefined;
    if (changes.retentionSeconds !== undefined) {
      gate.requirePermission(exchange.caller, name, "configureRetention");
    }
    if (keypair === undefined && Object.keys(changes).length === 0) {
      throw new CacheError("INVALID", "The body changes nothing", {
        hint: "Give at least one of keypair, is_public, store_dir, priority, upstream_cache_key_names, retention_period.",
      });
    }
    await requireEmptyForStoreDir(services, view, changes.storeDir);
    if (changes.isPublic === true) {
      const upstreams = await index.upstreamsOfViews([view.id]);
      requirePrivate({ ...view, isPublic: true }, upstreams);
    }
    if (keypair !== undefined) {
      const secretKey = keypair === "Generate" ? undefined : parseKeypair(keypair.Keypair);
      await index.replaceSigningKeys(view.id, createSigningKey(name, secretKey, now()));
      await services.resigner.resign(view);
    }
    if (Object.keys(changes).length > 0) await index.updateView(name, changes);
    sendEmpty(exchange, 200);
  };

  const destroy = async (exchange: Exchange): Promise<void> => {
    const view = await gate.requireView(exchange.caller, exchange.params["view"] ?? "", "destroy");
    await index.deleteView(view.name);
    services.logger.warn("destroyed a view", {
      view: view.name,
      subject: exchange.caller.claims?.subject,
    });
    sendEmpty(exchange, 200);
  };

  const pattern = "/_api/v1/cache-config/:view";
  return [
    { method: "GET", pattern, family: "attic", handler: get },
    { method: "GET", pattern: "/:view/attic-cache-info", family: "attic", handler: get },
    { method: "POST", pattern, family: "attic", handler: create },
    { method: "PATCH", pattern, family: "attic", handler: configure },
    { method: "DELETE", pattern, family: "attic", handler: destroy },
  ];
}

/** A view to create, with a key of its own unless one is given. */
export interface ViewToCreate {
  readonly name: string;
  readonly isPublic: boolean;
  readonly storeDir: string;
  readonly priority: number;
  readonly upstreamCacheKeyNames: readonly string[];
  readonly secretKey?: SecretKey;
}

/** @throws {CacheError} `CONFLICT` when the name is taken. */
export async function createView(
  { index, now }: Pick<RouteServices, "index" | "now">,
  { secretKey, ...view }: ViewToCreate,
): Promise<ViewRecord> {
  try {
    return await index.createView(
      {
        ...view,
        retentionSeconds: undefined,
        maxSizeBytes: undefined,
        compressionLevel: undefined,
        createdAtMs: now(),
      },
      createSigningKey(view.name, secretKey, now()),
    );
  } catch (error) {
    if (!(error instanceof CacheError) || error.code !== "CONFLICT") throw error;
    throw new AtticError(
      "CacheAlreadyExists",
      "CONFLICT",
      `The cache ${view.name} exists already`,
      {
        cause: error,
        status: 400,
      },
    );
  }
}

function requireStoreDir(storeDir: string): string {
  if (!isStoreDir(storeDir)) {
    throw new CacheError(
      "INVALID",
      `The store directory ${JSON.stringify(storeDir)} is not absolute`,
      {
        hint: "It is /nix/store nearly everywhere.",
      },
    );
  }
  return storeDir;
}

function toChanges(body: v.InferOutput<typeof ConfigureRequest>): ViewChanges {
  const rest = {
    ...(body.is_public == null ? {} : { isPublic: body.is_public }),
    ...(body.store_dir == null ? {} : { storeDir: requireStoreDir(body.store_dir) }),
    ...(body.priority == null ? {} : { priority: body.priority }),
    ...(body.upstream_cache_key_names == null
      ? {}
      : { upstreamCacheKeyNames: body.upstream_cache_key_names }),
  };
  const period = body.retention_period ?? undefined;
  if (period === undefined) return rest;
  // Attic's command line sends "Global" with every change, meant or not: it counts only on its own.
  if (period === "Global") {
    const isAlone = Object.keys(rest).length === 0 && body.keypair == null;
    return isAlone ? { retentionSeconds: "default" } : rest;
  }
  return { ...rest, retentionSeconds: period.Period };
}

async function requireEmptyForStoreDir(
  { index }: RouteServices,
  view: ViewRecord,
  storeDir: string | undefined,
): Promise<void> {
  if (storeDir === undefined || storeDir === view.storeDir) return;
  const { paths } = await index.viewStats(view.id);
  if (paths === 0) return;
  throw new CacheError("CONFLICT", `${view.name} has ${paths} paths in ${view.storeDir}`, {
    hint: "Create a new view for another store directory.",
  });
}
