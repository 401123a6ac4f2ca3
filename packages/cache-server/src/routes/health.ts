import type { Exchange } from "../http/exchange.ts";
import type { Route } from "../http/router.ts";
import { sendBytes, sendJson } from "../http/send.ts";
import type { RouteServices } from "./route-services.ts";

/** How long one check serves all who ask: a probe from many places must not become a load. */
const MAX_AGE_MS = 1000;

interface Readiness {
  readonly store: string;
  readonly index: string;
}

/** Whether the process lives, whether it can do its work, and a page for people who open the root. */
export function healthRoutes(services: RouteServices): Route[] {
  const { index, store, now } = services;
  let last: { readonly atMs: number; readonly readiness: Promise<Readiness> } | undefined;

  const check = async (part: string, ping: Promise<void>): Promise<string> => {
    try {
      await ping;
      return "ok";
    } catch (error) {
      services.logger.error(`the ${part} is not ready`, { error });
      return error instanceof Error ? error.message : String(error);
    }
  };

  const checkBoth = async (): Promise<Readiness> => {
    const [storeState, indexState] = await Promise.all([
      check("store", store.ping()),
      check("index", index.ping()),
    ]);
    return { store: storeState, index: indexState };
  };

  const readiness = async (exchange: Exchange): Promise<void> => {
    if (last === undefined || now() - last.atMs >= MAX_AGE_MS) {
      last = { atMs: now(), readiness: checkBoth() };
    }
    const parts = await last.readiness;
    const isReady = parts.store === "ok" && parts.index === "ok";
    sendJson(
      exchange,
      { status: isReady ? "ready" : "not-ready", ...parts },
      { status: isReady ? 200 : 503, headers: { "cache-control": "no-store" } },
    );
  };

  const health = (exchange: Exchange): Promise<void> => {
    sendJson(exchange, { status: "alive" }, { headers: { "cache-control": "no-store" } });
    return Promise.resolve();
  };

  const root = (exchange: Exchange): Promise<void> => {
    const page =
      '<!doctype html><html lang="en"><meta charset="utf-8"><title>GloriousFlywheel</title>' +
      "<h1>GloriousFlywheel</h1><p>A build cache answers here. Its views are below this address, " +
      "as <code>/&lt;view&gt;/nix-cache-info</code>; <code>/readyz</code> tells whether it is well.</p></html>\n";
    sendBytes(exchange, page, "text/html; charset=utf-8");
    return Promise.resolve();
  };

  return [
    { method: "GET", pattern: "/", family: "attic", handler: root },
    { method: "GET", pattern: "/healthz", family: "flywheel", anyHost: true, handler: health },
    { method: "GET", pattern: "/readyz", family: "flywheel", anyHost: true, handler: readiness },
  ];
}
