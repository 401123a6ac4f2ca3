import { CacheError } from "@glorious/core";
import {
  DEFAULT_STORE_DIR,
  formatPublicKey,
  isStoreDir,
  isStorePathHash,
  parsePublicKey,
} from "@glorious/nix-store";
import * as v from "valibot";

import type { Exchange } from "../http/exchange.ts";
import { readJsonBody } from "../http/json-body.ts";
import type { Route } from "../http/router.ts";
import { sendJson } from "../http/send.ts";
import type { ViewRecord } from "../index/cache-index.ts";
import type { UpstreamRecord } from "../index/upstream-index.ts";
import { tryUpstream } from "../upstream/upstream-probe.ts";
import { isReadableOnTheWay, parseUpstreamUrl } from "../upstream/upstream-url.ts";
import type { RouteServices } from "./route-services.ts";
import { requirePrivate } from "./upstream-secrecy.ts";

/** All alike: then the order decides in which a view has them. */
const DEFAULT_PRIORITY = 40;
const MAX_KEYS = 16;
/** Every miss of a view asks all of them. */
export const MAX_UPSTREAMS_OF_VIEW = 8;

const Name = v.pipe(
  v.string(),
  v.regex(/^[a-z0-9][a-z0-9-]{0,31}$/, "Expected up to 32 of a-z, 0-9 and -"),
);
const Keys = v.pipe(v.array(v.string()), v.minLength(1), v.maxLength(MAX_KEYS));
const Priority = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(2 ** 31 - 1));
const Bytes = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(Number.MAX_SAFE_INTEGER));
// Its value is no part of the message.
const Authorization = v.pipe(
  v.string(),
  v.regex(/^(?:Basic|Bearer) [\x21-\x7e]{1,8192}$/i, "Expected Basic or Bearer and one word"),
);
const NewUpstreamRequest = v.strictObject({
  name: Name,
  url: v.pipe(v.string(), v.maxLength(2048)),
  publicKeys: Keys,
  storeDir: v.optional(v.string(), DEFAULT_STORE_DIR),
  priority: v.optional(Priority, DEFAULT_PRIORITY),
  maxSizeBytes: v.optional(v.nullable(Bytes)),
  view: v.optional(v.string()),
  authorization: v.optional(Authorization),
});
const UpstreamChangeRequest = v.strictObject({
  publicKeys: v.optional(Keys),
  priority: v.optional(Priority),
  maxSizeBytes: v.optional(v.nullable(Bytes)),
  authorization: v.optional(Authorization),
});

const TrialRequest = v.strictObject({
  storePathHash: v.optional(v.pipe(v.string(), v.check(isStorePathHash, "Expected 32 of nix32"))),
});

/** For administrators: the caches that views may fall back to. */
export function upstreamRoutes(services: RouteServices): Route[] {
  const { index, gate, limits, logger, now } = services;
  const bodyLimits = { ...limits, maxSizeBytes: 2 ** 16 };

  const list = async (exchange: Exchange): Promise<void> => {
    gate.requireAdmin(exchange.caller);
    const upstreams = await index.listUpstreams();
    sendJson(exchange, {
      upstreams: await Promise.all(upstreams.map((upstream) => describe(upstream))),
    });
  };

  const show = async (exchange: Exchange): Promise<void> => {
    gate.requireAdmin(exchange.caller);
    sendJson(exchange, await describe(await requireUpstream(exchange)));
  };

  const add = async (exchange: Exchange): Promise<void> => {
    gate.requireAdmin(exchange.caller);
    const body = await readJsonBody(exchange, NewUpstreamRequest, bodyLimits);
    const { name, authorization, view, storeDir } = body;
    const url = parseUpstreamUrl(body.url);
    if (!isStoreDir(storeDir)) {
      throw new CacheError(
        "INVALID",
        `The store directory ${JSON.stringify(storeDir)} is not absolute`,
      );
    }
    requireSecrecy({ url, isPrivate: view !== undefined }, authorization);
    const owner = view === undefined ? undefined : await index.findView(view);
    if (view !== undefined && owner === undefined) {
      throw new CacheError("NOT_FOUND", `There is no view ${view}`);
    }
    if (owner !== undefined) requirePrivate(owner, [{ name, authorization }]);
    const upstream = await index.createUpstream({
      name,
      url,
      publicKeys: parseKeys(body.publicKeys),
      authorization,
      onlyViewId: owner?.id,
      storeDir,
      priority: body.priority,
      maxSizeBytes: body.maxSizeBytes ?? undefined,
      createdAtMs: now(),
    });
    const { subject } = exchange.caller.claims ?? {};
    logger.warn("added an upstream", { upstream: name, url, view, subject });
    sendJson(exchange, await describe(upstream));
  };

  const change = async (exchange: Exchange): Promise<void> => {
    gate.requireAdmin(exchange.caller);
    const before = await requireUpstream(exchange);
    const body = await readJsonBody(exchange, UpstreamChangeRequest, bodyLimits);
    const { publicKeys, priority, maxSizeBytes, authorization } = body;
    if (Object.keys(body).length === 0) {
      throw new CacheError("INVALID", "The body changes nothing", {
        hint: "Give at least one of publicKeys, priority, maxSizeBytes, authorization.",
      });
    }
    const isPrivate = before.onlyViewId !== undefined;
    requireSecrecy({ url: before.url, isPrivate }, authorization);
    const owner = await findOwner(before);
    if (owner !== undefined) requirePrivate(owner, [{ name: before.name, authorization }]);
    const upstream = await index.updateUpstream(before.name, {
      ...(publicKeys === undefined ? {} : { publicKeys: parseKeys(publicKeys) }),
      ...(priority === undefined ? {} : { priority }),
      ...(maxSizeBytes === undefined ? {} : { maxSizeBytes: maxSizeBytes ?? "default" }),
      ...(authorization === undefined ? {} : { authorization }),
    });
    if (upstream === undefined) throw noSuchUpstream(before.name);
    const { subject } = exchange.caller.claims ?? {};
    logger.warn("changed an upstream", {
      upstream: before.name,
      changed: Object.keys(body),
      forgot: upstream.viewId !== before.viewId,
      subject,
    });
    sendJson(exchange, await describe(upstream));
  };

  const remove = async (exchange: Exchange): Promise<void> => {
    gate.requireAdmin(exchange.caller);
    const upstream = await requireUpstream(exchange);
    const views = await index.viewsOfUpstream(upstream.id);
    if (!(await index.deleteUpstream(upstream.name))) throw noSuchUpstream(upstream.name);
    const { subject } = exchange.caller.claims ?? {};
    logger.warn("removed an upstream", { upstream: upstream.name, views, subject });
    sendJson(exchange, { name: upstream.name, views });
  };

  const tryOut = async (exchange: Exchange): Promise<void> => {
    gate.requireAdmin(exchange.caller);
    const upstream = await requireUpstream(exchange);
    const { storePathHash } = await readJsonBody(exchange, TrialRequest, bodyLimits);
    // Without a path to ask for, one that it had shows whether its key is still the same.
    const [fetched] =
      storePathHash === undefined ? await index.listPaths(upstream.viewId, { limit: 1 }) : [];
    const trial = await tryUpstream(upstream, {
      deadlineMs: services.upstreamPatienceMs,
      maxNarInfoBytes: limits.maxNarInfoSizeBytes,
      storePathHash: storePathHash ?? fetched?.storePathHash,
      signal: exchange.signal,
    });
    sendJson(exchange, {
      name: upstream.name,
      ...trial,
      durationMs: Math.round(trial.durationMs),
      ...describeHealth(services, upstream),
    });
  };

  const requireUpstream = async ({ params }: Exchange): Promise<UpstreamRecord> => {
    const name = params["name"] ?? "";
    const upstream = await index.findUpstream(name);
    if (upstream === undefined) throw noSuchUpstream(name);
    return upstream;
  };

  /** The view that a private one is for. */
  const findOwner = async ({ onlyViewId }: UpstreamRecord): Promise<ViewRecord | undefined> =>
    onlyViewId === undefined
      ? undefined
      : (await index.listViews()).find(({ id }) => id === onlyViewId);

  /** All but its credentials. */
  const describe = async (upstream: UpstreamRecord): Promise<Record<string, unknown>> => {
    const { maxSizeBytes = services.upstreamMaxSizeBytes } = upstream;
    const owner = await findOwner(upstream);
    const { paths, fileBytes } = await index.viewStats(upstream.viewId);
    return {
      ...describeUpstream(upstream),
      ...(owner && { view: owner.name }),
      hasCredentials: upstream.authorization !== undefined,
      isReadableOnTheWay: isReadableOnTheWay(upstream.url),
      views: await index.viewsOfUpstream(upstream.id),
      paths,
      fileBytes,
      maxSizeBytes,
      createdAt: new Date(upstream.createdAtMs).toISOString(),
      ...describeHealth(services, upstream),
    };
  };

  const base = "/_flywheel/v1/upstreams";
  const family = "flywheel";
  return [
    { method: "GET", pattern: base, family, handler: list },
    { method: "POST", pattern: base, family, handler: add },
    { method: "GET", pattern: `${base}/:name`, family, handler: show },
    { method: "PATCH", pattern: `${base}/:name`, family, handler: change },
    { method: "DELETE", pattern: `${base}/:name`, family, handler: remove },
    { method: "POST", pattern: `${base}/:name/test`, family, handler: tryOut },
  ];
}

/** What readers of its views may know of an upstream. */
export function describeUpstream(upstream: UpstreamRecord): Record<string, unknown> {
  const { name, url, publicKeys, storeDir, priority, onlyViewId } = upstream;
  return { name, url, publicKeys, storeDir, priority, isPrivate: onlyViewId !== undefined };
}

/** How it goes with an upstream since the server's start; nothing where none is asked. */
export function describeHealth(
  { upstreams }: Pick<RouteServices, "upstreams">,
  upstream: UpstreamRecord,
): Record<string, unknown> {
  if (upstreams === undefined) return {};
  const { state, lastFault } = upstreams.health(upstream);
  return {
    state: state === "closed" ? "asked" : "resting",
    ...(lastFault && {
      lastFault: { reason: lastFault.reason, secondsAgo: Math.round(lastFault.ageMs / 1000) },
    }),
  };
}

export function noSuchUpstream(name: string): CacheError {
  return new CacheError("NOT_FOUND", `There is no upstream ${JSON.stringify(name.slice(0, 64))}`, {
    hint: "`flywheel upstream list` shows an administrator those there are.",
  });
}

function parseKeys(texts: readonly string[]): string[] {
  return [...new Set(texts.map((text) => formatPublicKey(parsePublicKey(text))))];
}

/** Credentials go to nobody but who they are for, and what they fetch to nobody but one view's readers. */
function requireSecrecy(
  { url, isPrivate }: { readonly url: string; readonly isPrivate: boolean },
  authorization: string | undefined,
): void {
  if (authorization === undefined) return;
  if (!isPrivate) {
    throw new CacheError("INVALID", "An upstream with credentials belongs to one view", {
      hint: "Name it as `view` when the upstream is added: what is fetched with credentials is not shared.",
    });
  }
  if (isReadableOnTheWay(url)) {
    throw new CacheError("INVALID", `Credentials would be readable on their way to ${url}`, {
      hint: "Use https.",
    });
  }
}
