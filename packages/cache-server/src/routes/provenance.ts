import { CacheError } from "@glorious/core";
import { isStorePathHash } from "@glorious/nix-store";
import * as v from "valibot";

import type { Exchange } from "../http/exchange.ts";
import { readJsonBody } from "../http/json-body.ts";
import type { Route } from "../http/router.ts";
import { sendJson } from "../http/send.ts";
import type { RevocationEffect, RevocationRecord } from "../index/provenance-index.ts";
import type { RouteServices } from "./route-services.ts";

const MAX_LISTED = 1000;

const Text = v.pipe(v.string(), v.minLength(1), v.maxLength(512));
const RevocationRequest = v.strictObject({
  principal: v.optional(Text),
  run: v.optional(Text),
  token: v.optional(Text),
  since: v.optional(v.pipe(v.string(), v.isoTimestamp())),
  dryRun: v.optional(v.boolean(), false),
});

/** For administrators: who wrote and read what, and how to undo it. */
export function provenanceRoutes(services: RouteServices): Route[] {
  const { index, gate, reads, limits, logger, now } = services;

  const audit = async (exchange: Exchange): Promise<void> => {
    gate.requireAdmin(exchange.caller);
    const hash = exchange.params["hash"] ?? "";
    if (!isStorePathHash(hash)) {
      throw new CacheError("INVALID", `${JSON.stringify(hash.slice(0, 64))} is no store path hash`);
    }
    await reads.flush();
    const views = await index.findProvenance("path", hash, MAX_LISTED);
    if (views.length === 0) {
      throw new CacheError("NOT_FOUND", `Nothing is known of the path ${hash}`, {
        hint: "What was written before provenance was recorded, or longer ago than it is kept, has none.",
      });
    }
    sendJson(exchange, {
      storePathHash: hash,
      views: views.map(({ view, state, writers, readers }) => ({
        view,
        state,
        writers: writers.map(({ atMs, ...facts }) => ({ ...facts, at: toIso(atMs) })),
        readers: readers.map(({ firstAtMs, lastAtMs, ...facts }) => ({
          ...facts,
          firstAt: toIso(firstAtMs),
          lastAt: toIso(lastAtMs),
        })),
      })),
    });
  };

  const revoke = async (exchange: Exchange): Promise<void> => {
    gate.requireAdmin(exchange.caller);
    const body = await readJsonBody(exchange, RevocationRequest, {
      ...limits,
      maxSizeBytes: 2 ** 16,
    });
    const { principal, run, token, since, dryRun } = body;
    if ((principal ?? run ?? token ?? since) === undefined) {
      throw new CacheError("INVALID", "The body says nothing of what to revoke", {
        hint: "Give at least one of run, principal, token, since.",
      });
    }
    const selection = {
      principal,
      run,
      jti: token,
      sinceMs: since === undefined ? undefined : Date.parse(since),
    };
    // Who read it a moment ago is to be named as well.
    await reads.flush();
    if (dryRun) {
      const effect = await index.previewRevocation(selection, MAX_LISTED);
      sendJson(exchange, { dryRun, ...describeEffect(effect) });
      return;
    }
    const createdBy = exchange.caller.claims?.subject;
    const { id, ...effect } = await index.revoke(selection, { atMs: now(), createdBy }, MAX_LISTED);
    logger.warn("revoked what was written", { id, ...body, entries: effect.entries, createdBy });
    sendJson(exchange, { dryRun, id, ...describeEffect(effect) });
  };

  const list = async (exchange: Exchange): Promise<void> => {
    gate.requireAdmin(exchange.caller);
    const revocations = await index.listRevocations(MAX_LISTED);
    sendJson(exchange, { revocations: revocations.map(describeRevocation) });
  };

  const lift = async (exchange: Exchange): Promise<void> => {
    gate.requireAdmin(exchange.caller);
    const text = exchange.params["id"] ?? "";
    const id = /^\d{1,15}$/.test(text) ? Number(text) : 0;
    const keepsHidden = exchange.query.get("keepHidden") === "1";
    const lifted = await index.liftRevocation(id, { atMs: now(), keepsHidden });
    if (lifted === undefined) {
      throw new CacheError("NOT_FOUND", `There is no revocation ${text.slice(0, 64)} in force`, {
        hint: "`flywheel revoke --list` shows those there are.",
      });
    }
    const { subject } = exchange.caller.claims ?? {};
    logger.warn("took a revocation back", { id, keepsHidden, ...lifted, subject });
    sendJson(exchange, { id, ...lifted });
  };

  const revocations = "/_flywheel/v1/revocations";
  return [
    {
      method: "GET",
      pattern: "/_flywheel/v1/audit/paths/:hash",
      family: "flywheel",
      handler: audit,
    },
    { method: "POST", pattern: revocations, family: "flywheel", handler: revoke },
    { method: "GET", pattern: revocations, family: "flywheel", handler: list },
    { method: "DELETE", pattern: `${revocations}/:id`, family: "flywheel", handler: lift },
  ];
}

function describeEffect({ consumers, ...effect }: RevocationEffect): Record<string, unknown> {
  return {
    ...effect,
    consumers: consumers.map(({ lastAtMs, ...consumer }) => ({
      ...consumer,
      lastAt: toIso(lastAtMs),
    })),
  };
}

function describeRevocation(record: RevocationRecord): Record<string, unknown> {
  const { id, principal, run, jti, sinceMs, createdAtMs, createdBy, entries, liftedAtMs } = record;
  return {
    id,
    principal,
    run,
    token: jti,
    since: sinceMs && toIso(sinceMs),
    createdAt: toIso(createdAtMs),
    createdBy,
    entries,
    liftedAt: liftedAtMs && toIso(liftedAtMs),
  };
}

function toIso(timeMs: number): string {
  return new Date(timeMs).toISOString();
}
