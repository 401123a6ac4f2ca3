import { fromBinary, fromJson, toBinary, toJson } from "@bufbuild/protobuf";
import { CacheError } from "@glorious/core";
import { ActionResultSchema, type DigestKey, parseHash } from "@glorious/reapi";

import { countMiss, getActionResult, updateActionResult } from "../bazel/services/action-cache.ts";
import { contentAtHand, streamContent } from "../bazel/services/blob-content.ts";
import type { InstanceAccess } from "../bazel/services/instance-access.ts";
import type { BlobForm, StoredBlob } from "../bazel/store/bazel-store.ts";
import { collectBody, readBody, requireDeclaredSize } from "../http/body.ts";
import type { Exchange } from "../http/exchange.ts";
import type { Route } from "../http/router.ts";
import { acceptsZstd, sendEmpty } from "../http/send.ts";
import { bytesOf, sendChunks } from "../http/stream-body.ts";
import { requireBazel, type RouteServices } from "./route-services.ts";

/** Larger ones are no results of one action. */
const MAX_ACTION_RESULT_BYTES = 8 * 2 ** 20;
/** What a body takes that is stored while it comes; smaller ones less. */
export const STREAMED_BYTES: number = 256 * 1024;
const NO_WISHES = { inlineStdout: false, inlineStderr: false, inlineOutputFiles: [] };
const IMMUTABLE = "private, max-age=31536000, immutable";

/** Bazel's HTTP cache below a view and its instance names. */
export function bazelHttpRoutes(services: RouteServices): Route[] {
  const { limits } = services;

  const open = async (exchange: Exchange, permission: "pull" | "push"): Promise<InstanceAccess> => {
    const access = await requireBazel(services).instances.open(exchange.caller, {
      instance: instanceOf(exchange),
      permission,
      agent: exchange.request.headers["user-agent"],
    });
    exchange.viewName = access.view.name;
    return access;
  };

  const recallAccess = (exchange: Exchange): InstanceAccess | undefined => {
    const instance = instanceOf(exchange);
    const access = services.bazel?.instances.recall(exchange.caller, instance, "pull");
    exchange.viewName = access?.view.name;
    return access;
  };

  const getBlob = async (exchange: Exchange): Promise<void> => {
    const { scope, counters } = await open(exchange, "pull");
    const blob = await scope.findBlobOfHash(requireHash(exchange));
    if (blob === undefined) {
      counters.blobsNotRead += 1;
      throw new CacheError("NOT_FOUND", `There is no blob ${exchange.params["hash"]}`);
    }
    await sendStored(exchange, blob);
    counters.blobsRead += 1;
    counters.bytesRead += blob.sizeBytes;
  };

  /** Small blobs that memory has are answered in the turn that they are asked in. */
  const recallBlob = (exchange: Exchange): boolean => {
    const access = recallAccess(exchange);
    if (access === undefined) return false;
    const blob = access.scope.lookUpBlobOfHash(requireHash(exchange));
    const form = blob && formFor(exchange, blob);
    if (blob === undefined || form === undefined || blob.form !== form) return false;
    const bytes = contentAtHand(blob, form);
    if (bytes === undefined) return false;
    sendWhole(exchange, bytes, form === "zstd" ? ZSTD_HEADERS : BLOB_HEADERS);
    access.counters.blobsRead += 1;
    access.counters.bytesRead += blob.sizeBytes;
    return true;
  };

  const putBlob = async (exchange: Exchange): Promise<void> => {
    const { scope, counters } = await open(exchange, "push");
    const key = requireHash(exchange);
    const { form, sizeBytes } = requireUpload(exchange);
    const { request, signal } = exchange;
    const sentBytes = Number(request.headers["content-length"] ?? STREAMED_BYTES);
    const { requestMemory } = requireBazel(services);
    using _memory = await requestMemory.hold(exchange, Math.min(sentBytes, STREAMED_BYTES));
    const body = readBody(exchange, limits);
    const kind = await scope.putBlob({ key, sizeBytes, form, source: body, signal });
    if (kind === "present") {
      counters.blobsPresent += 1;
      // The client takes an answer only when it has sent everything.
      for await (const _ of body) continue;
    } else {
      counters.blobsStored += 1;
      counters.bytesStored += sizeBytes;
    }
    sendEmpty(exchange, 200);
  };

  const getAction = async (exchange: Exchange): Promise<void> => {
    const access = await open(exchange, "pull");
    const { scope, counters } = access;
    const found = await getActionResult(scope, requireHash(exchange), NO_WISHES);
    if (found.kind === "miss") {
      countMiss(access, requireHash(exchange), found.reason);
      throw new CacheError(
        "NOT_FOUND",
        `The ActionResult of ${exchange.params["hash"]} is ${found.reason}`,
      );
    }
    counters.actionHits += 1;
    if (/\bapplication\/json\b/i.test(exchange.request.headers.accept ?? "")) {
      const value = toJson(ActionResultSchema, fromBinary(ActionResultSchema, found.result));
      sendWhole(exchange, Buffer.from(JSON.stringify(value, undefined, 2)), [
        "content-type",
        "application/json",
        ...NO_STORE,
      ]);
      return;
    }
    sendWhole(exchange, found.result, ACTION_HEADERS);
  };

  const recallAction = (exchange: Exchange): boolean => {
    if (exchange.request.headers.accept?.includes("json") === true) return false;
    const access = recallAccess(exchange);
    const found = access?.scope.lookUpActionOf(requireHash(exchange));
    if (access === undefined || found?.kind !== "hit") return false;
    sendWhole(exchange, found.result, ACTION_HEADERS);
    access.counters.actionHits += 1;
    return true;
  };

  const putAction = async (exchange: Exchange): Promise<void> => {
    const { scope, counters } = await open(exchange, "push");
    const key = requireHash(exchange);
    const maxSizeBytes = MAX_ACTION_RESULT_BYTES;
    requireDeclaredSize(exchange.request, maxSizeBytes);
    const sentBytes = Number(exchange.request.headers["content-length"] ?? maxSizeBytes);
    // As it comes, and put together.
    using _memory = await requireBazel(services).requestMemory.hold(exchange, 2 * sentBytes);
    const body = await collectBody(exchange, { ...limits, maxSizeBytes });
    const isJson = /^application\/json\b/i.test(exchange.request.headers["content-type"] ?? "");
    await updateActionResult(scope, key, isJson ? fromJsonBody(body) : body);
    counters.actionsStored += 1;
    sendEmpty(exchange, 200);
  };

  const family = "bazel";
  const cas = "/:view/:instance*/cas/:hash";
  const ac = "/:view/:instance*/ac/:hash";
  return [
    { method: "GET", pattern: cas, family, handler: getBlob, recall: recallBlob },
    { method: "PUT", pattern: cas, family, handler: putBlob },
    { method: "GET", pattern: ac, family, handler: getAction, recall: recallAction },
    { method: "PUT", pattern: ac, family, handler: putAction },
  ];
}

const NO_STORE = ["cache-control", "no-store"] as const;
const OCTETS = ["content-type", "application/octet-stream"] as const;
const BLOB_HEADERS = [...OCTETS, "cache-control", IMMUTABLE, "vary", "accept-encoding"];
const ZSTD_HEADERS = [...BLOB_HEADERS, "content-encoding", "zstd"];
const ACTION_HEADERS = [...OCTETS, ...NO_STORE];

function instanceOf({ params }: Exchange): string {
  const { view = "", instance = "" } = params;
  return instance === "" ? view : `${view}/${instance}`;
}

function requireHash({ params }: Exchange): DigestKey {
  return parseHash(params["hash"] ?? "");
}

function requireUpload(exchange: Exchange): {
  readonly form: BlobForm;
  readonly sizeBytes: number;
} {
  const { headers } = exchange.request;
  const encoding = headers["content-encoding"]?.toLowerCase() ?? "identity";
  const contentBytes = bytesOf(headers["content-length"], "Content-Length");
  const rawHeader = headers["x-digest-sizebytes"];
  const sizeBytes =
    rawHeader === undefined ? undefined : bytesOf(String(rawHeader), "X-Digest-SizeBytes");
  if (encoding === "identity") {
    if (contentBytes === undefined) {
      throw new CacheError("INVALID", "The upload does not say how long it is", {
        hint: "Send Content-Length.",
      });
    }
    return { form: "identity", sizeBytes: contentBytes };
  }
  if (encoding !== "zstd") {
    throw new CacheError("UNSUPPORTED", `The encoding ${encoding} is not taken here`, {
      hint: "Send the content as it is, or as zstd with X-Digest-SizeBytes.",
    });
  }
  if (sizeBytes === undefined) {
    throw new CacheError("INVALID", "X-Digest-SizeBytes is missing", {
      hint: "With Content-Encoding: zstd it says how long the content is uncompressed.",
    });
  }
  return { form: "zstd", sizeBytes };
}

/** The form to send a blob in: as it is stored, where the client takes that. */
function formFor(exchange: Exchange, blob: StoredBlob): BlobForm {
  return blob.form === "zstd" && acceptsZstd(exchange) ? "zstd" : "identity";
}

async function sendStored(exchange: Exchange, blob: StoredBlob): Promise<void> {
  const { request, response, signal } = exchange;
  const form = formFor(exchange, blob);
  const sizeBytes = form === "zstd" ? blob.storedBytes : blob.sizeBytes;
  const headers = form === "zstd" ? ZSTD_HEADERS : BLOB_HEADERS;
  const bytes = contentAtHand(blob, form);
  if (bytes !== undefined) {
    sendWhole(exchange, bytes, headers);
    return;
  }
  if (request.method === "HEAD") {
    response.writeHead(200, [...headers, "content-length", String(sizeBytes)]).end();
    return;
  }
  if (form === blob.form) {
    await using open = await blob.open(undefined, signal);
    response.writeHead(200, [...headers, "content-length", String(sizeBytes)]);
    await open.sendTo(response, signal);
    response.end();
    return;
  }
  response.writeHead(200, [...headers, "content-length", String(sizeBytes)]);
  await sendChunks(exchange, streamContent(blob, form, { signal }));
}

function sendWhole(
  { request, response, requestId }: Exchange,
  bytes: Uint8Array,
  headers: readonly string[],
): void {
  // Headers given as one list and none set before take Node's short way.
  const number = response.hasHeader("x-request-id") ? [] : ["x-request-id", requestId];
  response.writeHead(200, [...number, ...headers, "content-length", String(bytes.length)]);
  response.end(request.method === "HEAD" ? undefined : bytes);
}

function fromJsonBody(body: Buffer): Uint8Array {
  try {
    const value = fromJson(ActionResultSchema, JSON.parse(body.toString("utf8")));
    return toBinary(ActionResultSchema, value);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CacheError("INVALID", `The body is no ActionResult in JSON: ${reason}`, { cause });
  }
}
