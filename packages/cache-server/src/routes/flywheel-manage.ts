import { randomBytes } from "node:crypto";

import { CacheError } from "@glorious/core";
import { ADMIN_NAMESPACE, ATTIC_NAMESPACE, parseTokenClaims, signToken } from "@glorious/trust";
import * as v from "valibot";

import type { ScopeUsage } from "../bazel/store/bazel-store.ts";
import type { ViewCounters } from "../bazel/view-counters.ts";
import type { Exchange } from "../http/exchange.ts";
import { readJsonBody } from "../http/json-body.ts";
import type { Route } from "../http/router.ts";
import { sendEmpty, sendJson } from "../http/send.ts";
import type { ViewRecord } from "../index/cache-index.ts";
import { describeLatency } from "../metrics/view-latencies.ts";
import { requireStorePathHash } from "./nix-files.ts";
import { describeView } from "./retention.ts";
import { type BazelServices, requireBazel, type RouteServices } from "./route-services.ts";

const DEFAULT_TOKEN_SECONDS = 90 * 24 * 3600;

const Flag = v.union([v.literal(0), v.literal(1)], "Expected 0 or 1");
const TokenRequest = v.object({
  subject: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(256))),
  // Looked into by the same code that reads tokens, so what is made can also be read.
  caches: v.optional(
    v.custom<object>((value) => typeof value === "object" && value !== null, "Expected an object"),
    {},
  ),
  admin: v.optional(Flag, 0),
  expiresInSeconds: v.optional(
    v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(100 * 365 * 24 * 3600)),
    DEFAULT_TOKEN_SECONDS,
  ),
});

/** Management: views, their figures, single paths, and tokens. */
export function flywheelManageRoutes(services: RouteServices): Route[] {
  const { index, gate, limits, now } = services;

  const info = (exchange: Exchange): Promise<void> => {
    sendJson(exchange, { server: "gloriousflywheel", version: services.version, api: 1 });
    return Promise.resolve();
  };

  const listViews = async (exchange: Exchange): Promise<void> => {
    const { caller, request } = exchange;
    // Nobody in particular may ask; but a bad token must not look like one that may see nothing.
    if (caller.claims === undefined && request.headers.authorization !== undefined) {
      throw new CacheError("UNAUTHENTICATED", `${caller.problem}: no view can be listed`, {
        hint: "Send a valid token, or none to see what is public.",
      });
    }
    const views = await index.listViews();
    sendJson(exchange, {
      views: views.filter((view) => gate.maySee(exchange.caller, view)).map(describeView),
    });
  };

  const stats = async (exchange: Exchange): Promise<void> => {
    const view = await gate.requireView(exchange.caller, exchange.params["view"] ?? "", "pull");
    const { bazel, latencies } = services;
    const latency = latencies.find(view.name);
    sendJson(exchange, {
      ...(await index.viewStats(view.id)),
      ...(latency && { latency: describeLatency(latency.nix) }),
      ...(bazel && { bazel: await bazelStats(services, bazel, view) }),
    });
  };

  /** For a summary at a build's end: the tool knows the id, and nothing else needs to be sent. */
  const invocation = async (exchange: Exchange): Promise<void> => {
    const { view: name = "", id = "" } = exchange.params;
    const view = await gate.requireView(exchange.caller, name, "pull");
    const figures = requireBazel(services).invocations.find(view.id, id);
    if (figures === undefined) {
      throw new CacheError("NOT_FOUND", `Nothing was heard of the invocation ${id.slice(0, 64)}`, {
        hint: "Only gRPC's clients say theirs, and only the latest are remembered.",
      });
    }
    const { firstAtMs, lastAtMs, ...counts } = figures;
    const firstAt = new Date(firstAtMs).toISOString();
    sendJson(exchange, { id, ...counts, firstAt, lastAt: new Date(lastAtMs).toISOString() });
  };

  const deletePath = async (exchange: Exchange): Promise<void> => {
    const view = await gate.requireView(exchange.caller, exchange.params["view"] ?? "", "delete");
    const hash = requireStorePathHash(exchange.params["hash"] ?? "");
    if (!(await index.deletePath(view.id, hash, now() + limits.narGraceMs))) {
      throw new CacheError("NOT_FOUND", `There is no path ${hash} in ${view.name}`);
    }
    services.logger.info("deleted a path", {
      view: view.name,
      storePathHash: hash,
      subject: exchange.caller.claims?.subject,
    });
    sendEmpty(exchange, 204);
  };

  const createToken = async (exchange: Exchange): Promise<void> => {
    gate.requireAdmin(exchange.caller);
    const body = await readJsonBody(exchange, TokenRequest, { ...limits, maxSizeBytes: 2 ** 20 });
    const { key, issuer, audiences } = services.newTokens;
    if (key === undefined) {
      throw new CacheError(
        "UNSUPPORTED",
        "This server only verifies tokens; it has no key to sign them",
        {
          hint: "Make the token where the private key is, or configure one in tokens.keys.",
        },
      );
    }
    const jti = randomBytes(16).toString("hex");
    const expiresAtMs = now() + body.expiresInSeconds * 1000;
    const claims = parseTokenClaims({
      ...(body.subject === undefined ? {} : { sub: body.subject }),
      jti,
      iss: issuer,
      aud: audiences,
      exp: Math.floor(expiresAtMs / 1000),
      // Attic's servers allow the clock no drift here.
      nbf: Math.floor(now() / 1000) - 60,
      [ATTIC_NAMESPACE]: { caches: body.caches },
      [ADMIN_NAMESPACE]: { admin: body.admin },
    });
    const token = await signToken(key, claims);
    services.logger.info("created a token", { jti, subject: body.subject });
    sendJson(exchange, { token, jti, expiresAt: new Date(expiresAtMs).toISOString() });
  };

  const revokeToken = async (exchange: Exchange): Promise<void> => {
    gate.requireAdmin(exchange.caller);
    const jti = exchange.params["jti"] ?? "";
    // Tokens made elsewhere have ids in a form of their own.
    if (!/^\P{Cc}{1,256}$/u.test(jti)) {
      throw new CacheError("INVALID", `${JSON.stringify(jti.slice(0, 100))} is no token id`);
    }
    const expiresAt = exchange.query.get("expiresAt");
    if (expiresAt !== null && !/^\d{1,12}$/.test(expiresAt)) {
      throw new CacheError("INVALID", "The query's expiresAt is no number of seconds since 1970");
    }
    await index.revokeToken(jti, expiresAt === null ? undefined : Number(expiresAt) * 1000);
    services.logger.warn("revoked a token", { jti, subject: exchange.caller.claims?.subject });
    sendEmpty(exchange, 204);
  };

  const base = "/_flywheel/v1";
  return [
    { method: "GET", pattern: `${base}/info`, family: "flywheel", handler: info },
    { method: "GET", pattern: `${base}/views`, family: "flywheel", handler: listViews },
    { method: "GET", pattern: `${base}/views/:view/stats`, family: "flywheel", handler: stats },
    {
      method: "GET",
      pattern: `${base}/views/:view/invocations/:id`,
      family: "flywheel",
      handler: invocation,
    },
    {
      method: "DELETE",
      pattern: `${base}/views/:view/paths/:hash`,
      family: "flywheel",
      handler: deletePath,
    },
    { method: "POST", pattern: `${base}/tokens`, family: "flywheel", handler: createToken },
    { method: "DELETE", pattern: `${base}/tokens/:jti`, family: "flywheel", handler: revokeToken },
  ];
}

/** What a view's Bazel data is, and what its callers asked and got since the server's start. */
async function bazelStats(
  { latencies }: Pick<RouteServices, "latencies">,
  { plane, counters }: BazelServices,
  view: ViewRecord,
): Promise<ScopeUsage & ViewCounters & { readonly latency?: object }> {
  const store = await plane.openStore(view);
  const latency = latencies.find(view.name);
  return Object.assign(
    {},
    await store.usageOf(view.id),
    counters.of(view.id),
    latency && { latency: describeLatency(latency.bazel) },
  );
}
