import { CacheError } from "@glorious/core";
import * as v from "valibot";

import type { Exchange } from "../http/exchange.ts";
import { readJsonBody } from "../http/json-body.ts";
import type { Route } from "../http/router.ts";
import { sendJson } from "../http/send.ts";
import type { ViewRecord } from "../index/cache-index.ts";
import type { UpstreamRecord } from "../index/upstream-index.ts";
import { baseOfOverlay, createReadChain, type ReadChain } from "../trust/read-chain.ts";
import type { RouteServices } from "./route-services.ts";
import { requirePrivate } from "./upstream-secrecy.ts";
import {
  describeHealth,
  describeUpstream,
  MAX_UPSTREAMS_OF_VIEW,
  noSuchUpstream,
} from "./upstreams.ts";

const UpstreamsRequest = v.strictObject({
  upstreams: v.pipe(
    v.array(v.pipe(v.string(), v.maxLength(64))),
    v.maxLength(MAX_UPSTREAMS_OF_VIEW),
  ),
});

/** Which upstreams a view falls back to. */
export function viewUpstreamRoutes(services: RouteServices): Route[] {
  const { index, gate, limits, logger, commons } = services;

  const show = async (exchange: Exchange): Promise<void> => {
    const chain = await gate.requireChain(exchange.caller, exchange.params["view"] ?? "");
    sendJson(exchange, await describe(exchange, chain));
  };

  const replace = async (exchange: Exchange): Promise<void> => {
    const { caller, params } = exchange;
    const view = await gate.requireView(caller, params["view"] ?? "", "configure");
    if (baseOfOverlay(view.name) !== undefined) {
      throw new CacheError(
        "INVALID",
        `${view.name} is an overlay: it has the upstreams of its base`,
        {
          hint: `Give them to ${baseOfOverlay(view.name)}.`,
        },
      );
    }
    const { upstreams: names } = await readJsonBody(exchange, UpstreamsRequest, {
      ...limits,
      maxSizeBytes: 2 ** 16,
    });
    const ids: number[] = [];
    for (const name of names) ids.push((await requireAttachable(view, name)).id);
    await index.setViewUpstreams(view.id, ids);
    const { subject } = caller.claims ?? {};
    logger.info("changed the upstreams of a view", { view: view.name, upstreams: names, subject });
    const isReader = view.isPublic || gate.may(caller, view.name, "pull");
    const chain = isReader
      ? await gate.requireChain(caller, view.name)
      : createReadChain(view, [view], await index.upstreamsOfViews([view.id]));
    sendJson(exchange, await describe(exchange, chain));
  };

  /** One that belongs to another view is not told from one that is not there. */
  const requireAttachable = async (view: ViewRecord, name: string): Promise<UpstreamRecord> => {
    const upstream = await index.findUpstream(name);
    if (upstream === undefined || (upstream.onlyViewId ?? view.id) !== view.id) {
      throw noSuchUpstream(name);
    }
    requirePrivate(view, [upstream]);
    if (upstream.storeDir === view.storeDir) return upstream;
    throw new CacheError(
      "CONFLICT",
      `The paths of ${name} lie in ${upstream.storeDir}, those of ${view.name} in ${view.storeDir}`,
      { hint: "Nix can use no path of another store directory." },
    );
  };

  const describe = async (
    { caller }: Exchange,
    { view, views, upstreams: asked }: ReadChain,
  ): Promise<unknown> => {
    const reads: { readonly of: ViewRecord; readonly upstreams: readonly UpstreamRecord[] }[] = [];
    for (const of of views) reads.push({ of, upstreams: await index.upstreamsOfViews([of.id]) });
    // What others fetched shows in the space, so that it is not for everybody.
    const seesSpaceOf = ({ id }: UpstreamRecord): boolean =>
      caller.claims?.isAdmin === true ||
      reads.some(
        ({ of, upstreams }) =>
          gate.may(caller, of.name, "configure") && upstreams.some((each) => each.id === id),
      );
    const describeOne = async (upstream: UpstreamRecord): Promise<Record<string, unknown>> => ({
      ...describeUpstream(upstream),
      ...describeHealth(services, upstream),
      ...(seesSpaceOf(upstream) && (await describeSpace(upstream))),
    });
    const own = reads.find(({ of }) => of.id === view.id)?.upstreams ?? [];
    return {
      signsUpstream: view.signsUpstream,
      pushesUpstream: view.pushesUpstream,
      upstreams: await Promise.all(own.map(describeOne)),
      reads: reads.map(({ of: { name, signsUpstream }, upstreams }) => ({
        view: name,
        isCommons: commons.isNamed(name),
        signsUpstream,
        upstreams: upstreams.map((upstream) => upstream.name),
      })),
      asked: await Promise.all(asked.map(describeOne)),
    };
  };

  const describeSpace = async (upstream: UpstreamRecord): Promise<Record<string, number>> => {
    const { paths, fileBytes } = await index.viewStats(upstream.viewId);
    const { maxSizeBytes = services.upstreamMaxSizeBytes } = upstream;
    return { paths, fileBytes, maxSizeBytes };
  };

  const pattern = "/_flywheel/v1/views/:view/upstreams";
  return [
    { method: "GET", pattern, family: "flywheel", handler: show },
    { method: "PUT", pattern, family: "flywheel", handler: replace },
  ];
}
