import { CacheError } from "@glorious/core";
import { formatHash, parseHash } from "@glorious/nix-store";

import type { Exchange } from "../http/exchange.ts";
import type { Route } from "../http/router.ts";
import { sendJson } from "../http/send.ts";
import { requireStorePathHash } from "./nix-files.ts";
import type { RouteServices } from "./route-services.ts";

/** What the commons holds, and why. */
export function commonsRoutes({ commons, gate }: RouteServices): Route[] {
  const explain = async (exchange: Exchange): Promise<void> => {
    const { caller, params } = exchange;
    const hash = requireStorePathHash(params["hash"] ?? "");
    const isAdmin = caller.claims?.isAdmin === true;
    let knowsOne = isAdmin;
    const names = (view: string): boolean => {
      const may = isAdmin || gate.may(caller, view, "pull");
      knowsOne ||= may;
      return may;
    };
    const explanation = await commons.explain(hash, names);
    // Who may know of no view that contributes is told what holds for everybody.
    if (!knowsOne) gate.requireAdmin(caller);
    if (explanation === undefined) {
      throw new CacheError("NOT_FOUND", "This server has no commons", {
        hint: "Its operator adds a shared view with an agreement to the trust policy.",
      });
    }
    const { votes, versions, ...about } = explanation;
    sendJson(exchange, {
      storePathHash: hash,
      ...about,
      votes: votes.map(({ atMs, ...vote }) => ({ ...vote, at: new Date(atMs).toISOString() })),
      versions: versions.map((version) => ({
        ...version,
        narHash: formatHash(parseHash(version.narHash, "sha256"), "nix32"),
      })),
    });
  };

  return [
    {
      method: "GET",
      pattern: "/_flywheel/v1/commons/paths/:hash",
      family: "flywheel",
      handler: explain,
    },
  ];
}
