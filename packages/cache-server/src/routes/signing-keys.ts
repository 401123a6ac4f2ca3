import { CacheError } from "@glorious/core";
import * as v from "valibot";

import { createSigningKey, parseKeypair } from "../commit/new-signing-key.ts";
import type { Exchange } from "../http/exchange.ts";
import { readJsonBody } from "../http/json-body.ts";
import type { Route } from "../http/router.ts";
import { sendEmpty, sendJson } from "../http/send.ts";
import type { NewSigningKey } from "../index/cache-index.ts";
import type { RouteServices } from "./route-services.ts";

/** Every key is a signature in every narinfo; a rotation needs two. */
const MAX_KEYS = 8;

const NewKeyRequest = v.object({ keypair: v.optional(v.string()) });

/** The keys of a view: several sign at once while clients go from one to the next. */
export function signingKeyRoutes(services: RouteServices): Route[] {
  const { index, gate, limits, logger, now } = services;

  const list = async (exchange: Exchange): Promise<void> => {
    const view = await gate.requireView(exchange.caller, exchange.params["view"] ?? "", "pull");
    const keys = await index.listSigningKeys(view.id);
    sendJson(exchange, {
      keys: keys.map(describeKey),
      outdatedPaths: await index.countOutdatedPaths(view.id),
    });
  };

  const add = async (exchange: Exchange): Promise<void> => {
    const name = exchange.params["view"] ?? "";
    const view = await gate.requireView(exchange.caller, name, "configure");
    const { keypair } = await readJsonBody(exchange, NewKeyRequest, {
      ...limits,
      maxSizeBytes: 2 ** 16,
    });
    const key = createSigningKey(
      view.name,
      keypair === undefined ? undefined : parseKeypair(keypair),
      now(),
    );
    if ((await index.listSigningKeys(view.id)).length >= MAX_KEYS) {
      throw new CacheError("CONFLICT", `${view.name} has ${MAX_KEYS} signing keys already`, {
        hint: "Retire those that no client needs any more.",
      });
    }
    await index.addSigningKey(view.id, key);
    services.resigner.kick(view);
    const { subject } = exchange.caller.claims ?? {};
    logger.warn("added a signing key", { view: view.name, key: key.name, subject });
    sendJson(exchange, describeKey(key));
  };

  const retire = async (exchange: Exchange): Promise<void> => {
    const { view: viewName = "", name = "" } = exchange.params;
    const view = await gate.requireView(exchange.caller, viewName, "configure");
    if (!(await index.removeSigningKey(view.id, name))) {
      throw new CacheError("NOT_FOUND", `${view.name} has no signing key ${JSON.stringify(name)}`, {
        hint: "`flywheel key list` shows those it has.",
      });
    }
    services.resigner.kick(view);
    const { subject } = exchange.caller.claims ?? {};
    logger.warn("retired a signing key", { view: view.name, key: name, subject });
    sendEmpty(exchange, 204);
  };

  const pattern = "/_flywheel/v1/views/:view/keys";
  return [
    { method: "GET", pattern, family: "flywheel", handler: list },
    { method: "POST", pattern, family: "flywheel", handler: add },
    { method: "DELETE", pattern: `${pattern}/:name`, family: "flywheel", handler: retire },
  ];
}

/** What anybody may know of it. */
function describeKey({ name, publicKey, createdAtMs }: NewSigningKey): {
  readonly name: string;
  readonly publicKey: string;
  readonly createdAt: string;
} {
  return { name, publicKey, createdAt: new Date(createdAtMs).toISOString() };
}
