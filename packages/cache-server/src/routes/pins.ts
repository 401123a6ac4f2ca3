import { CacheError } from "@glorious/core";
import { parseStorePath } from "@glorious/nix-store";
import * as v from "valibot";

import type { Exchange } from "../http/exchange.ts";
import { readJsonBody } from "../http/json-body.ts";
import type { Route } from "../http/router.ts";
import { sendEmpty, sendJson } from "../http/send.ts";
import type { RouteServices } from "./route-services.ts";

const PinRequest = v.object({ storePath: v.string() });

/** Pins: names under which a view keeps a path, with all it refers to, whatever its limits. */
export function pinRoutes(services: RouteServices): Route[] {
  const { index, gate, limits, logger, now } = services;

  const list = async (exchange: Exchange): Promise<void> => {
    const view = await gate.requireView(exchange.caller, exchange.params["view"] ?? "", "pull");
    const pins = await index.listPins(view.id);
    sendJson(exchange, {
      pins: pins.map(({ name, storePath, createdAtMs }) => {
        return { name, storePath, createdAt: new Date(createdAtMs).toISOString() };
      }),
    });
  };

  const put = async (exchange: Exchange): Promise<void> => {
    const view = await gate.requireView(exchange.caller, exchange.params["view"] ?? "", "push");
    const name = requirePinName(exchange.params["name"] ?? "");
    const body = await readJsonBody(exchange, PinRequest, { ...limits, maxSizeBytes: 2 ** 16 });
    const { path, hash } = parseStorePath(body.storePath, view.storeDir);
    const createdBy = exchange.caller.claims?.subject;
    const pin = { name, storePathHash: hash, storePath: path, createdAtMs: now(), createdBy };
    const existing = await index.findPath([view.id], hash);
    // What protects a path names it as it is.
    if (existing !== undefined && existing.storePath !== path) {
      throw new CacheError("NOT_FOUND", `The view has ${existing.storePath}, not ${path}`);
    }
    const kind = await index.putPin(view.id, pin);
    logger.info("pinned a path", { view: view.name, pin: name, storePath: path, createdBy });
    sendJson(exchange, { kind, name, storePath: path });
  };

  const remove = async (exchange: Exchange): Promise<void> => {
    const view = await gate.requireView(exchange.caller, exchange.params["view"] ?? "", "delete");
    const name = requirePinName(exchange.params["name"] ?? "");
    if (!(await index.deletePin(view.id, name))) {
      throw new CacheError("NOT_FOUND", `${view.name} has no pin ${name}`, {
        hint: "`flywheel path pins` shows those it has.",
      });
    }
    const { subject } = exchange.caller.claims ?? {};
    logger.info("removed a pin", { view: view.name, pin: name, subject });
    sendEmpty(exchange, 204);
  };

  const pattern = "/_flywheel/v1/views/:view/pins";
  return [
    { method: "GET", pattern, family: "flywheel", handler: list },
    { method: "PUT", pattern: `${pattern}/:name`, family: "flywheel", handler: put },
    { method: "DELETE", pattern: `${pattern}/:name`, family: "flywheel", handler: remove },
  ];
}

function requirePinName(name: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9+\-._?=]{0,254}$/.test(name)) return name;
  throw new CacheError("INVALID", `${JSON.stringify(name.slice(0, 100))} is no name of a pin`, {
    hint: "Use letters, digits and + - . _ ? =, at most 255, and begin with a letter or digit.",
  });
}
