import { createHash, hash } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";

import { CacheError, isCacheError } from "@glorious/core";
import type { Blob, BlobStore, ByteRange } from "@glorious/storage";

import type { Exchange } from "./exchange.ts";
import { parseRange } from "./range.ts";

export interface TextOptions {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Answers with a small body, with its entity tag and 304 when the client has it already. */
export function sendBytes(
  { request, response }: Pick<Exchange, "request" | "response">,
  body: Uint8Array | string,
  contentType: string,
  { status = 200, headers = {} }: TextOptions = {},
): void {
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  const isRead = request.method === "GET" || request.method === "HEAD";
  const tag = isRead && status === 200 ? entityTag(bytes) : undefined;
  if (tag !== undefined && matchesTag(request.headers["if-none-match"], tag)) {
    response.writeHead(304, { ...headers, etag: tag }).end();
    return;
  }
  response.writeHead(status, {
    ...headers,
    "content-type": contentType,
    "content-length": bytes.length,
    ...(tag === undefined ? {} : { etag: tag }),
  });
  response.end(request.method === "HEAD" ? undefined : bytes);
}

/** A small successful answer, made once and sent many times. */
export interface PreparedAnswer {
  readonly tag: string;
  /** Names and values in turn, those of a 304. */
  readonly cacheHeaders: readonly string[];
  /** The same of a 200. */
  readonly headers: readonly string[];
  /** A string when it is ASCII: head and body then leave in one write. */
  readonly body: string | Buffer;
  readonly sizeBytes: number;
}

/** Makes what {@link sendPrepared} sends. The tag names the bytes; by default it is made from them. */
export function prepareAnswer(
  body: string | Buffer,
  contentType: string,
  { tag, headers }: { readonly tag?: string; readonly headers: Readonly<Record<string, string>> },
): PreparedAnswer {
  const bytes = typeof body === "string" ? Buffer.from(body) : body;
  const etag = tag === undefined ? entityTag(bytes) : `"${tag}"`;
  const cacheHeaders = [...Object.entries(headers).flat(), "etag", etag];
  return {
    tag: etag,
    cacheHeaders,
    headers: [...cacheHeaders, "content-type", contentType, "content-length", `${bytes.length}`],
    body: bytes.length === body.length ? body : bytes,
    sizeBytes: bytes.length,
  };
}

/** Answers a GET or HEAD, with 304 when the client has the body already. */
export function sendPrepared(exchange: Exchange, answer: PreparedAnswer): void {
  const { request, response, requestId } = exchange;
  const isKnown = matchesTag(request.headers["if-none-match"], answer.tag);
  const headers = isKnown ? answer.cacheHeaders : answer.headers;
  // Headers given as one list and none set before take Node's short way.
  const isNumbered = response.hasHeader("x-request-id");
  const all = isNumbered ? [...headers] : ["x-request-id", requestId, ...headers];
  response.writeHead(isKnown ? 304 : 200, all);
  if (isKnown || request.method === "HEAD") response.end();
  else response.end(answer.body, "latin1");
}

export function sendJson(exchange: Exchange, value: unknown, options: TextOptions = {}): void {
  sendBytes(exchange, JSON.stringify(value), "application/json", options);
}

/** Whether the client takes a body in zstd. */
export function acceptsZstd({ request }: Pick<Exchange, "request">): boolean {
  return /\bzstd\b/.test(request.headers["accept-encoding"] ?? "");
}

export function sendEmpty({ response }: Exchange, status: number): void {
  response.writeHead(status, status === 204 ? {} : { "content-length": 0 }).end();
}

export interface SendBlobOptions {
  readonly store: BlobStore;
  /** Where a proxy serves the store's directory to itself; proxies that do say so in each request. */
  readonly accelRedirect: string | undefined;
  readonly key: string;
  /** What the bytes hash to, in hexadecimal; their entity tag, too. */
  readonly sha256: string;
  /** What the index says the size is; a store that disagrees has a damaged blob. */
  readonly sizeBytes: number;
  readonly contentType: string;
  readonly headers: Readonly<Record<string, string>>;
  /**
   * Told, before the answer, that the store has no such blob, one of another size, or other bytes; and after a part of
   * it, that the rest cannot be read.
   */
  readonly onFault: (depth: "size" | "bytes") => Promise<unknown>;
  /** Told of a small blob that was read whole, to be sent again without the store. */
  readonly onRead?: (answer: PreparedAnswer) => void;
}

/** Blobs up to this size are sent in one piece, and may be kept in memory. */
const SMALL_BLOB_BYTES = 64 * 1024;

/**
 * Answers with a stored blob: whole, one range of it, its headers only, or 304.
 *
 * The length is known and the blob open before the first header leaves, so an answer that begins can be
 * completed, or resumed by a range. A small blob that is read whole is hashed before it leaves, which costs less than
 * to read it.
 *
 * @throws {CacheError} `NOT_FOUND` when the store has no such blob or a damaged one, `RANGE` for a range outside.
 */
export async function sendBlob(exchange: Exchange, options: SendBlobOptions): Promise<void> {
  const { request, response } = exchange;
  const { sizeBytes } = options;
  const etag = `"${options.sha256}"`;
  if (matchesTag(request.headers["if-none-match"], etag)) {
    response.writeHead(304, { ...options.headers, etag }).end();
    return;
  }
  if (await handOver(exchange, options)) return;
  const range = requestedRange(request, response, etag, sizeBytes);
  const { signal } = exchange;
  const blob = await openBlob(options, range, signal);
  if (blob === undefined) throw await badBlob(options, "size");
  await using open = blob;
  if (open.sizeBytes !== sizeBytes) throw await badBlob(options, "size");
  if (range === undefined && request.method === "GET" && sizeBytes <= SMALL_BLOB_BYTES) {
    const { contentType, sha256: tag } = options;
    const bytes = await readAll(open);
    if (bytes === undefined || hash("sha256", bytes) !== tag) {
      throw await badBlob(options, "bytes");
    }
    const headers = { ...options.headers, "accept-ranges": "bytes" };
    const answer = prepareAnswer(bytes, contentType, { tag, headers });
    options.onRead?.(answer);
    sendPrepared(exchange, answer);
    return;
  }
  response.writeHead(range === undefined ? 200 : 206, {
    ...options.headers,
    "content-type": options.contentType,
    "content-length": range === undefined ? sizeBytes : range.end - range.start,
    "accept-ranges": "bytes",
    etag,
    ...(range === undefined
      ? {}
      : { "content-range": `bytes ${range.start}-${range.end - 1}/${sizeBytes}` }),
  });
  if (request.method === "HEAD") {
    response.end();
    return;
  }
  try {
    await open.sendTo(response, signal);
  } catch (error) {
    if (isCacheError(error, "CORRUPT")) await options.onFault("bytes");
    throw error;
  }
  response.end();
}

/** Opens what is asked for of a blob; `undefined` when it is gone or too short for that. */
async function openBlob(
  { store, key }: SendBlobOptions,
  range: ByteRange | undefined,
  signal: AbortSignal,
): Promise<Blob | undefined> {
  if (range === undefined) return store.get(key, { signal });
  try {
    return await store.get(key, { range, signal });
  } catch (error) {
    // The range is within the size that the index knows.
    if (isCacheError(error, "RANGE")) return undefined;
    throw error;
  }
}

/** All bytes of a small blob; `undefined` when they cannot all be read. */
async function readAll(blob: Blob): Promise<Buffer | undefined> {
  try {
    return Buffer.concat(await Array.fromAsync(blob.stream()));
  } catch (error) {
    if (isCacheError(error, "CORRUPT")) return undefined;
    throw error;
  }
}

/** A proxy that sends files itself sets this header, so that clients who come without it get the bytes. */
const ACCEL_HEADER = "x-flywheel-accel";

/** Lets the proxy that asked send the file, ranges included. */
async function handOver(
  { request, response }: Exchange,
  options: SendBlobOptions,
): Promise<boolean> {
  const { store, key, sizeBytes, accelRedirect } = options;
  if (accelRedirect === undefined || request.headers[ACCEL_HEADER] === undefined) return false;
  const location = store.locate?.(key);
  if (location === undefined) return false;
  const stat = await store.stat(key);
  if (stat?.sizeBytes !== sizeBytes) throw await badBlob(options, "size");
  response.writeHead(200, {
    ...options.headers,
    "content-type": options.contentType,
    "x-accel-redirect": accelRedirect + location,
    "content-length": 0,
  });
  response.end();
  return true;
}

/** The one part that is asked for, of bytes that have this tag. @throws {CacheError} `RANGE`. */
export function requestedRange(
  request: IncomingMessage,
  response: ServerResponse,
  etag: string,
  sizeBytes: number,
): { start: number; end: number } | undefined {
  if (request.method === "HEAD") return undefined;
  // A range on other bytes than the client began with would give it a mixture.
  const condition = request.headers["if-range"];
  if (condition !== undefined && condition !== etag) return undefined;
  try {
    return parseRange(request.headers.range, sizeBytes);
  } catch (error) {
    response.setHeader("content-range", `bytes */${sizeBytes}`);
    throw error;
  }
}

async function badBlob(
  { key, onFault }: SendBlobOptions,
  depth: "size" | "bytes",
): Promise<CacheError> {
  await onFault(depth);
  const what = depth === "size" ? "lost" : "damaged";
  return new CacheError("NOT_FOUND", `The stored object ${key} is ${what}`, {
    hint: "Push the path again: that stores it anew.",
  });
}

function entityTag(bytes: Uint8Array): string {
  return `"${createHash("sha256").update(bytes).digest("base64url").slice(0, 27)}"`;
}

function matchesTag(header: string | undefined, tag: string): boolean {
  if (header === undefined) return false;
  if (header.trim() === "*") return true;
  return header.split(",").some((part) => part.trim().replace(/^W\//, "") === tag);
}
