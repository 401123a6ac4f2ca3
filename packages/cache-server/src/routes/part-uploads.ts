import { CacheError } from "@glorious/core";
import { parseSha256Hex } from "@glorious/nix-store";
import * as v from "valibot";

import { readBody } from "../http/body.ts";
import type { Exchange } from "../http/exchange.ts";
import { readJsonBody } from "../http/json-body.ts";
import type { Route } from "../http/router.ts";
import { sendEmpty, sendJson } from "../http/send.ts";
import type { ViewRecord } from "../index/cache-index.ts";
import { formatReceipt, isSha256, requireSha256 } from "./nar-receipt.ts";
import type { RouteServices } from "./route-services.ts";

const MAX_BODY_BYTES = 2 ** 16;

const Bytes = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const BeginRequest = v.object({
  narHash: v.pipe(
    v.string(),
    v.check(isSha256, "Expected a SHA-256 hash"),
    v.transform(parseSha256Hex),
  ),
  narSize: Bytes,
  partBytes: Bytes,
});

/** Our own client's upload of a large NAR, in parts that survive a restart of either side. */
export function partUploadRoutes(services: RouteServices): Route[] {
  const { gate, partUploads, limits } = services;

  const openView = (exchange: Exchange): Promise<ViewRecord> =>
    gate.requireWritableView(exchange.caller, exchange.params["view"] ?? "");
  const openForBytes = (exchange: Exchange): Promise<ViewRecord> =>
    gate.requireUploadView(exchange.caller, exchange.params["view"] ?? "");
  const idOf = (exchange: Exchange): string => exchange.params["id"] ?? "";

  const begin = async (exchange: Exchange): Promise<void> => {
    const view = await openForBytes(exchange);
    const request = await readJsonBody(exchange, BeginRequest, {
      ...limits,
      maxSizeBytes: MAX_BODY_BYTES,
    });
    const level = view.compressionLevel ?? limits.compressionLevel;
    const begun = await partUploads.begin(view.id, { ...request, level });
    if (begun.kind === "held") {
      sendJson(exchange, formatReceipt("deduplicated", begun.object));
      return;
    }
    const { kind: _, ...open } = begun;
    sendJson(exchange, { ...open, partBytes: request.partBytes });
  };

  const putPart = async (exchange: Exchange): Promise<void> => {
    const view = await openForBytes(exchange);
    const header = exchange.request.headers["x-flywheel-sha256"];
    const part = await partUploads.putPart(view.id, idOf(exchange), {
      number: requirePartNumber(exchange.params["number"] ?? ""),
      sha256: requireSha256(typeof header === "string" ? header : ""),
      source: readBody(exchange, limits),
      signal: exchange.signal,
    });
    sendJson(exchange, part);
  };

  const complete = async (exchange: Exchange): Promise<void> => {
    const view = await openView(exchange);
    const completed = await partUploads.complete(view.id, idOf(exchange), exchange.signal);
    if (completed.kind === "done") {
      sendJson(exchange, formatReceipt(completed.nar.kind, completed.nar.object));
      return;
    }
    if (completed.kind === "running") {
      sendJson(exchange, { state: "running" }, { status: 202 });
      return;
    }
    sendJson(
      exchange,
      {
        code: 409,
        error: "CONFLICT",
        message: `The upload lacks ${completed.parts.length} of its parts`,
        hint: "Send them, then complete it again.",
        requestId: exchange.requestId,
        missingParts: completed.parts,
      },
      { status: 409 },
    );
  };

  const giveUp = async (exchange: Exchange): Promise<void> => {
    const view = await openView(exchange);
    await partUploads.giveUp(view.id, idOf(exchange));
    sendEmpty(exchange, 204);
  };

  const uploads = "/_flywheel/v1/views/:view/uploads";
  const upload = `${uploads}/:id`;
  return [
    { method: "POST", pattern: uploads, family: "flywheel", handler: begin },
    { method: "PUT", pattern: `${upload}/parts/:number`, family: "flywheel", handler: putPart },
    { method: "POST", pattern: `${upload}/complete`, family: "flywheel", handler: complete },
    { method: "DELETE", pattern: upload, family: "flywheel", handler: giveUp },
  ];
}

function requirePartNumber(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new CacheError("INVALID", `${JSON.stringify(text.slice(0, 100))} is no number of a part`);
}
