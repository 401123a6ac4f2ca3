import type { Exchange } from "../http/exchange.ts";
import type { Route } from "../http/router.ts";
import { sendBytes } from "../http/send.ts";
import type { RouteServices } from "./route-services.ts";

/** Figures for Prometheus. */
export function metricsRoutes(services: RouteServices): Route[] {
  const { gate, metrics, metricsNeedAdmin } = services;

  const render = async (exchange: Exchange): Promise<void> => {
    if (metricsNeedAdmin) gate.requireAdmin(exchange.caller);
    const { text, contentType } = await metrics.render();
    sendBytes(exchange, text, contentType, { headers: { "cache-control": "no-store" } });
  };

  return [{ method: "GET", pattern: "/metrics", family: "flywheel", handler: render }];
}
