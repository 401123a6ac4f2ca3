import { CacheError } from "@glorious/core";

import type { InstanceAccess } from "../bazel/services/instance-access.ts";
import { readBody } from "../http/body.ts";
import type { Exchange } from "../http/exchange.ts";
import type { Route } from "../http/router.ts";
import { sendEmpty } from "../http/send.ts";
import { bytesOf } from "../http/stream-body.ts";
import { STREAMED_BYTES } from "./bazel-http.ts";
import { requireBazel, type RouteServices } from "./route-services.ts";

const MAX_KEY_CHARACTERS = 1024;

/**
 * Opaque values under any key, for ccache, sccache and Gradle. Bazel's routes never read them, and these never
 * read anything of Bazel's.
 */
export function keyedValueRoutes(services: RouteServices): Route[] {
  const { limits } = services;

  const open = async (exchange: Exchange, permission: "pull" | "push"): Promise<InstanceAccess> => {
    const { view = "" } = exchange.params;
    const access = await requireBazel(services).instances.open(exchange.caller, {
      instance: view,
      permission,
      agent: exchange.request.headers["user-agent"],
    });
    exchange.viewName = access.view.name;
    return access;
  };

  const get = async (exchange: Exchange): Promise<void> => {
    const { scope, counters } = await open(exchange, "pull");
    const found = await scope.findValue(requireKey(exchange));
    if (found === undefined) {
      counters.valueMisses += 1;
      throw noSuchValue(exchange);
    }
    counters.valueHits += 1;
    const { value, sha256 } = found;
    const { request, response, signal } = exchange;
    const headers = {
      "content-type": "application/octet-stream",
      "content-length": value.sizeBytes,
      "cache-control": "no-store",
      etag: `"${sha256}"`,
    };
    if (request.method === "HEAD" || value.bytes !== undefined) {
      response.writeHead(200, headers);
      response.end(request.method === "HEAD" ? undefined : value.bytes);
      return;
    }
    await using blob = await value.open(undefined, signal);
    response.writeHead(200, headers);
    await blob.sendTo(response, signal);
    response.end();
  };

  const put = async (exchange: Exchange): Promise<void> => {
    const { scope, counters } = await open(exchange, "push");
    const key = requireKey(exchange);
    const { request, signal } = exchange;
    const sizeBytes = bytesOf(request.headers["content-length"], "Content-Length");
    using _memory = await requireBazel(services).requestMemory.hold(
      exchange,
      Math.min(sizeBytes ?? STREAMED_BYTES, STREAMED_BYTES),
    );
    const isNew = await scope.putValue(key, readBody(exchange, limits), { sizeBytes, signal });
    counters.valuesStored += 1;
    sendEmpty(exchange, isNew ? 201 : 204);
  };

  const remove = async (exchange: Exchange): Promise<void> => {
    const { scope } = await open(exchange, "push");
    if (!(await scope.deleteValue(requireKey(exchange)))) throw noSuchValue(exchange);
    sendEmpty(exchange, 204);
  };

  /** WebDAV clients look at a file, or at the folder that it is to lie in: every folder is there. */
  const describe = async (exchange: Exchange): Promise<void> => {
    const { scope } = await open(exchange, "pull");
    const { key = "" } = exchange.params;
    const isFolder = key === "" || key.endsWith("/");
    const found = isFolder ? undefined : await scope.findValue(requireKey(exchange));
    if (!isFolder && found === undefined) throw noSuchValue(exchange);
    const path = (exchange.request.url ?? "").split("?", 1)[0] ?? "";
    const body = Buffer.from(formatProperties(path, found && found.value.sizeBytes));
    exchange.response.writeHead(207, {
      "content-type": "application/xml; charset=utf-8",
      "content-length": body.length,
    });
    exchange.response.end(body);
  };

  const makeFolder = async (exchange: Exchange): Promise<void> => {
    await open(exchange, "push");
    sendEmpty(exchange, 201);
  };

  const family = "bazel";
  const pattern = "/:view/kv/:key*";
  return [
    { method: "GET", pattern, family, handler: get },
    { method: "PUT", pattern, family, handler: put },
    { method: "DELETE", pattern, family, handler: remove },
    { method: "PROPFIND", pattern, family, handler: describe },
    { method: "MKCOL", pattern, family, handler: makeFolder },
  ];
}

function requireKey({ params }: Exchange): string {
  const { key = "" } = params;
  if (key !== "" && key.length <= MAX_KEY_CHARACTERS && !key.includes("\0")) return key;
  throw new CacheError("INVALID", `A key has 1 to ${MAX_KEY_CHARACTERS} characters`, {
    hint: "Put it behind /kv/.",
  });
}

function noSuchValue({ params }: Exchange): CacheError {
  return new CacheError("NOT_FOUND", `There is no value under ${params["key"]?.slice(0, 200)}`);
}

/** What WebDAV's clients want to know of a file or, without a size, of a folder. @see RFC 4918, section 9.1. */
function formatProperties(path: string, sizeBytes: number | undefined): string {
  const properties =
    sizeBytes === undefined
      ? "<D:resourcetype><D:collection/></D:resourcetype>"
      : `<D:resourcetype/><D:getcontentlength>${sizeBytes}</D:getcontentlength>`;
  return [
    '<?xml version="1.0" encoding="utf-8"?>',
    '<D:multistatus xmlns:D="DAV:"><D:response>',
    `<D:href>${escapeXml(path)}</D:href><D:propstat><D:prop>`,
    `${properties}<D:getlastmodified>Thu, 01 Jan 1970 00:00:00 GMT</D:getlastmodified>`,
    "</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>",
    "</D:response></D:multistatus>",
  ].join("");
}

function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
