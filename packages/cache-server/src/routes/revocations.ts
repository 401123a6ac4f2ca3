import { CacheError } from "@glorious/core";
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

/** For administrators: undoing what somebody wrote. */
export function revocationRoutes(services: RouteServices): Route[] {
  const { index, gate, revoker, limits, logger } = services;

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
    if (dryRun) {
      sendJson(exchange, { dryRun, ...describeEffect(await revoker.preview(selection)) });
      return;
    }
    const createdBy = exchange.caller.claims?.subject;
    const { id, ...effect } = await revoker.revoke(selection, createdBy);
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
    const lifted = await revoker.lift(id, { keepsHidden });
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
  const { id, principal, run, jti, sinceMs, createdAtMs, createdBy, entries } = record;
  const { finishedAtMs, liftedAtMs } = record;
  return {
    id,
    principal,
    run,
    token: jti,
    since: sinceMs && toIso(sinceMs),
    createdAt: toIso(createdAtMs),
    createdBy,
    entries,
    finishedAt: finishedAtMs && toIso(finishedAtMs),
    liftedAt: liftedAtMs && toIso(liftedAtMs),
  };
}

function toIso(timeMs: number): string {
  return new Date(timeMs).toISOString();
}
