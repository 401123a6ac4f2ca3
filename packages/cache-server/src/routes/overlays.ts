import { CacheError } from "@glorious/core";

import type { Exchange } from "../http/exchange.ts";
import type { Route } from "../http/router.ts";
import { sendJson } from "../http/send.ts";
import type { ViewRecord } from "../index/cache-index.ts";
import { baseOfOverlay } from "../trust/read-chain.ts";
import type { Caller } from "../trust/trust-gate.ts";
import type { RouteServices } from "./route-services.ts";

/** Deletes overlays before their time, such as those of a branch that is gone. */
export function overlayRoutes(services: RouteServices): Route[] {
  const { index, gate, logger } = services;

  const remove = async (exchange: Exchange): Promise<void> => {
    const { caller, params, query } = exchange;
    const name = params["view"] ?? "";
    const isMeant = readSelection(query);
    const base = await requireBase(caller, baseOfOverlay(name) ?? name);
    const deleted: string[] = [];
    for (const overlay of await index.listViews()) {
      if (overlay.overlayOf !== base.id || !isMeant(overlay)) continue;
      if (!mayDelete(caller, overlay, base)) continue;
      if (await index.deleteView(overlay.name)) deleted.push(overlay.name);
    }
    if (deleted.length > 0) {
      const { subject, grant } = caller.claims ?? {};
      logger.info("deleted overlays on request", { views: deleted, subject, run: grant?.run });
    }
    sendJson(exchange, { deleted });
  };

  /** Whoever may write to the view, or to an overlay over it, and administrators. */
  const requireBase = async (caller: Caller, name: string): Promise<ViewRecord> => {
    const { grant, isAdmin = false } = caller.claims ?? {};
    const isNamed = grant?.write === name || grant?.overlayOf === name;
    if (!isAdmin && (grant?.write === undefined || !isNamed)) {
      // Answers as for any view that the caller may not destroy, whether it exists or not.
      return await gate.requireView(caller, name, "destroy");
    }
    const base = await index.findView(name);
    if (base === undefined) throw new CacheError("NOT_FOUND", `There is no cache ${name}`);
    return base;
  };

  const mayDelete = ({ claims }: Caller, overlay: ViewRecord, base: ViewRecord): boolean => {
    const grant = claims?.grant;
    if (claims?.isAdmin === true || grant === undefined) return true;
    if (grant.trust === "trusted") {
      return grant.write === base.name && overlay.overlayOwner === grant.principal;
    }
    return grant.write === overlay.name && grant.overlayKey === overlay.overlayKey;
  };

  return [
    {
      method: "DELETE",
      pattern: "/_flywheel/v1/views/:view/overlays",
      family: "flywheel",
      handler: remove,
    },
  ];
}

/** @throws {CacheError} `INVALID` unless exactly one of `ref`, `pullRequest` and `name` is given. */
function readSelection(query: URLSearchParams): (overlay: ViewRecord) => boolean {
  const [ref, pullRequest, name] = ["ref", "pullRequest", "name"].map(
    (key) => query.get(key) ?? undefined,
  );
  if ([ref, pullRequest, name].filter((given) => given !== undefined).length !== 1) {
    throw new CacheError("INVALID", "The query does not say which overlays to delete", {
      hint: "Give one of ref (such as refs/heads/topic), pullRequest (its number), name.",
    });
  }
  if (ref !== undefined) return (overlay) => overlay.overlayRef === ref;
  if (name !== undefined) return (overlay) => overlay.name === name;
  if (!/^[1-9]\d{0,15}$/.test(pullRequest ?? "")) {
    throw new CacheError("INVALID", "pullRequest is the number of a pull or merge request");
  }
  const isOfRequest = new RegExp(`^refs/(?:pull|merge-requests)/${pullRequest}/`);
  return (overlay) =>
    overlay.name.endsWith(`_pr-${pullRequest}`) || isOfRequest.test(overlay.overlayRef ?? "");
}
