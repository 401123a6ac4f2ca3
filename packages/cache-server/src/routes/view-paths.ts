import { CacheError } from "@glorious/core";
import { isStorePathHash } from "@glorious/nix-store";

import type { Exchange } from "../http/exchange.ts";
import type { Route } from "../http/router.ts";
import { sendJson } from "../http/send.ts";
import type { RouteServices } from "./route-services.ts";

const DEFAULT_LIMIT = 1000;
const MAX_LIMIT = 10_000;

/**
 * What a view holds, page by page. A reader knows what it asks for; who may list everything looks after the view, so
 * this takes the configure permission, of a public view too.
 */
export function viewPathRoutes({ index, gate }: RouteServices): Route[] {
  const list = async (exchange: Exchange): Promise<void> => {
    const { caller, params, query } = exchange;
    const view = await gate.requireView(caller, params["view"] ?? "", "configure");
    const after = query.get("after") ?? "";
    if (after !== "" && !isStorePathHash(after)) {
      throw new CacheError("INVALID", "The query's after is no store path hash");
    }
    const limit = readLimit(query.get("limit"));
    const page = await index.listPaths(view.id, { after, limit });
    // What is lost is listed for walking over it, and nobody can have it.
    const found = await index.findNarInfos(
      [view.id],
      page.map(({ storePathHash }) => storePathHash),
    );
    const served = new Set(found.map(({ storePathHash }) => storePathHash));
    const last = page.length < limit ? undefined : page.at(-1)?.storePathHash;
    sendJson(exchange, {
      paths: page
        .filter(({ storePathHash }) => served.has(storePathHash))
        .map(({ storePath, narHash, narSize, fileSize }) => {
          return { storePath, narHash, narSize, fileSize };
        }),
      ...(last !== undefined && { next: last }),
    });
  };

  return [
    {
      method: "GET",
      pattern: "/_flywheel/v1/views/:view/paths",
      family: "flywheel",
      handler: list,
    },
  ];
}

function readLimit(text: string | null): number {
  if (text === null) return DEFAULT_LIMIT;
  const limit = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (limit >= 1 && limit <= MAX_LIMIT) return limit;
  throw new CacheError("INVALID", `The query's limit is no number from 1 to ${MAX_LIMIT}`);
}
