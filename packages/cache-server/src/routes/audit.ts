import { CacheError } from "@glorious/core";
import { isStorePathHash } from "@glorious/nix-store";
import { parseHash } from "@glorious/reapi";

import type { Exchange } from "../http/exchange.ts";
import type { Route } from "../http/router.ts";
import { sendJson } from "../http/send.ts";
import type { EntryProvenance } from "../index/provenance-index.ts";
import { requireBazel, type RouteServices } from "./route-services.ts";

const MAX_LISTED = 1000;
/** What uploads write beside paths. */
const DOCUMENT_KINDS = ["log", "realisation", "build-trace", "debuginfo"] as const;

/** For administrators: who wrote and read what. */
export function auditRoutes(services: RouteServices): Route[] {
  const { index, gate, reads } = services;

  const auditPath = async (exchange: Exchange): Promise<void> => {
    gate.requireAdmin(exchange.caller);
    const hash = exchange.params["hash"] ?? "";
    if (!isStorePathHash(hash)) {
      throw new CacheError("INVALID", `${JSON.stringify(hash.slice(0, 64))} is no store path hash`);
    }
    await reads.flush();
    const views = await index.findProvenance("path", hash, MAX_LISTED);
    requireKnown(views, `the path ${hash}`);
    sendJson(exchange, { storePathHash: hash, views: views.map(describeView) });
  };

  const auditBazel =
    (kind: "action" | "blob") =>
    async (exchange: Exchange): Promise<void> => {
      gate.requireAdmin(exchange.caller);
      const hash = exchange.params["hash"] ?? "";
      const key = parseHash(hash);
      const instances: EntryProvenance[] = [];
      await requireBazel(services).plane.forEachStore(async ({ provenance }) => {
        instances.push(...(await provenance.find({ kind, key }, MAX_LISTED)));
      });
      requireKnown(instances, kind === "action" ? `the action ${hash}` : `the blob ${hash}`);
      sendJson(exchange, { hash, views: instances.map(describeView) });
    };

  const auditDocument = async (exchange: Exchange): Promise<void> => {
    gate.requireAdmin(exchange.caller);
    const { kind = "", name = "" } = exchange.params;
    const documentKind = DOCUMENT_KINDS.find((each) => each === kind);
    if (documentKind === undefined) {
      throw new CacheError("INVALID", `${JSON.stringify(kind.slice(0, 64))} is no document`, {
        hint: `There are: ${DOCUMENT_KINDS.join(", ")}.`,
      });
    }
    const views = await index.findProvenance(documentKind, name, MAX_LISTED);
    requireKnown(views, `the ${kind} ${name.slice(0, 200)}`);
    sendJson(exchange, { kind, name, views: views.map(describeView) });
  };

  const audit = "/_flywheel/v1/audit";
  const family = "flywheel";
  return [
    { method: "GET", pattern: `${audit}/paths/:hash`, family, handler: auditPath },
    {
      method: "GET",
      pattern: `${audit}/documents/:kind/:name*`,
      family,
      handler: auditDocument,
    },
    { method: "GET", pattern: `${audit}/actions/:hash`, family, handler: auditBazel("action") },
    { method: "GET", pattern: `${audit}/blobs/:hash`, family, handler: auditBazel("blob") },
  ];
}

function requireKnown(views: readonly EntryProvenance[], what: string): void {
  if (views.length > 0) return;
  throw new CacheError("NOT_FOUND", `Nothing is known of ${what}`, {
    hint: "What was written before provenance was recorded, or longer ago than it is kept, has none.",
  });
}

function describeView({ view, state, writers, readers }: EntryProvenance): Record<string, unknown> {
  return {
    view,
    state,
    writers: writers.map(({ atMs, ...facts }) => ({ ...facts, at: toIso(atMs) })),
    readers: readers.map(({ firstAtMs, lastAtMs, ...facts }) => ({
      ...facts,
      firstAt: toIso(firstAtMs),
      lastAt: toIso(lastAtMs),
    })),
  };
}

function toIso(timeMs: number): string {
  return new Date(timeMs).toISOString();
}
