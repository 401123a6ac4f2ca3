import { CacheError } from "@glorious/core";
import * as v from "valibot";

import type { CollectionReport } from "../housekeeping/collector.ts";
import type { Exchange } from "../http/exchange.ts";
import { readJsonBody } from "../http/json-body.ts";
import type { Route } from "../http/router.ts";
import { sendJson } from "../http/send.ts";
import type { ViewChanges, ViewRecord } from "../index/cache-index.ts";
import { baseOfOverlay } from "../trust/read-chain.ts";
import type { RouteServices } from "./route-services.ts";

const Whole = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER));
const Seconds = v.pipe(Whole, v.maxValue(2 ** 32 - 1));
const Level = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(19));
const ViewRequest = v.strictObject({
  maxSizeBytes: v.optional(v.nullable(Whole)),
  retentionSeconds: v.optional(v.nullable(Seconds)),
  compressionLevel: v.optional(v.nullable(Level)),
  signsUpstream: v.optional(v.boolean()),
  pushesUpstream: v.optional(v.boolean()),
});

/** What a view may keep, and the collections that see to it. */
export function retentionRoutes(services: RouteServices): Route[] {
  const { index, gate, collector, limits, logger } = services;

  const configure = async (exchange: Exchange): Promise<void> => {
    const name = exchange.params["view"] ?? "";
    await gate.requireView(exchange.caller, name, "configure");
    const body = await readJsonBody(exchange, ViewRequest, { ...limits, maxSizeBytes: 2 ** 16 });
    const { maxSizeBytes, retentionSeconds } = body;
    if (maxSizeBytes !== undefined || retentionSeconds !== undefined) {
      gate.requirePermission(exchange.caller, name, "configureRetention");
    }
    const changes = toChanges(body);
    if (Object.keys(changes).length === 0) {
      throw new CacheError("INVALID", "The body changes nothing", {
        hint: "Give at least one of maxSizeBytes, retentionSeconds, compressionLevel, signsUpstream, pushesUpstream.",
      });
    }
    const view = await index.updateView(name, changes);
    if (view === undefined) throw new CacheError("NOT_FOUND", `There is no view ${name}`);
    const { subject } = exchange.caller.claims ?? {};
    logger.info("changed a view's settings", { view: name, ...changes, subject });
    sendJson(exchange, describeView(view));
  };

  const collectView = async (exchange: Exchange): Promise<void> => {
    const name = exchange.params["view"] ?? "";
    const view = await gate.requireView(exchange.caller, name, "delete");
    gate.requirePermission(exchange.caller, name, "configureRetention");
    const isDryRun = readDryRun(exchange);
    sendJson(exchange, describeReport(await collector.collect(view.name, { isDryRun })));
  };

  const collectAll = async (exchange: Exchange): Promise<void> => {
    gate.requireAdmin(exchange.caller);
    const isDryRun = readDryRun(exchange);
    const reports = await collector.collectAll({ isDryRun });
    sendJson(exchange, { dryRun: isDryRun, views: reports.map(describeReport) });
  };

  const base = "/_flywheel/v1";
  return [
    { method: "PATCH", pattern: `${base}/views/:view`, family: "flywheel", handler: configure },
    { method: "POST", pattern: `${base}/views/:view/gc`, family: "flywheel", handler: collectView },
    { method: "POST", pattern: `${base}/gc`, family: "flywheel", handler: collectAll },
  ];
}

/** A view as management shows it. */
export function describeView(view: ViewRecord): Record<string, unknown> {
  const { retentionSeconds, maxSizeBytes, compressionLevel } = view;
  const overlayOf = baseOfOverlay(view.name);
  return {
    name: view.name,
    ...(overlayOf === undefined ? {} : { overlayOf }),
    isPublic: view.isPublic,
    storeDir: view.storeDir,
    priority: view.priority,
    upstreamCacheKeyNames: view.upstreamCacheKeyNames,
    ...(retentionSeconds === undefined ? {} : { retentionSeconds }),
    ...(maxSizeBytes === undefined ? {} : { maxSizeBytes }),
    ...(compressionLevel === undefined ? {} : { compressionLevel }),
    signsUpstream: view.signsUpstream,
    pushesUpstream: view.pushesUpstream,
    createdAt: new Date(view.createdAtMs).toISOString(),
  };
}

function describeReport({ isDryRun, durationMs, ...report }: CollectionReport): unknown {
  return { ...report, dryRun: isDryRun, durationMs: Math.round(durationMs) };
}

function readDryRun({ query }: Exchange): boolean {
  const value = query.get("dryRun") ?? "0";
  if (value === "0" || value === "1") return value === "1";
  throw new CacheError("INVALID", `The query's dryRun ${JSON.stringify(value)} is neither 0 nor 1`);
}

function toChanges(body: v.InferOutput<typeof ViewRequest>): ViewChanges {
  const changes = Object.entries(body).filter(([, value]) => value !== undefined);
  return Object.fromEntries(changes.map(([name, value]) => [name, value ?? "default"]));
}
