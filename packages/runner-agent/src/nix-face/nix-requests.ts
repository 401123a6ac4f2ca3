import { timingSafeEqual } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";

import { CacheError, isCacheError } from "@glorious/core";
import { formatNixCacheInfo, isStorePathHash, parseNixCacheInfo } from "@glorious/nix-store";

import type { NixMissReason, Statistics } from "../statistics.ts";
import type { KnownPath, KnownPaths } from "./known-paths.ts";
import { openNarStream } from "./nar-stream.ts";
import type { NarInfoSource } from "./narinfo-source.ts";
import type { ReadAhead } from "./read-ahead.ts";
import { readRange, sendChunks } from "./serve-nar.ts";
import type { SpooledNar } from "./spool.ts";
import type { Upstream } from "./upstream.ts";

/** What the face's requests are answered with. */
export interface NixRequestsOptions {
  readonly secret: string;
  readonly upstream: Upstream;
  /** With a final slash. */
  readonly cacheUrl: URL;
  readonly cacheInfoUrl: URL;
  readonly known: KnownPaths;
  readonly source: NarInfoSource;
  readonly readAhead: ReadAhead;
  /** Paths whose bytes were not what their narinfo says. */
  readonly wrong: ReadonlySet<string>;
  readonly stallMs: number;
  readonly statistics: Statistics;
}

/** NARs up to this size are served when they are here as a whole, and right. */
const CHECKED_BYTES = 2 ** 20;
/** Nix keeps so many connections busy by default: a lower bound of what it would have waited. */
const NIX_CONNECTIONS = 25;
const CACHE_INFO_DEADLINE_MS = 1500;
const MISSES: Readonly<Record<NixMissReason, string>> = {
  absent: "The cache does not have it.",
  "breaker-open": "The cache is in trouble and not asked for a while.",
  timeout: "The cache did not answer in time.",
  refused: "The cache refused the token.",
  error: "The cache answered with an error.",
};

/**
 * Answers what Nix asks of a binary cache; everything else is not there.
 *
 * The answer rejects when it cannot be completed: its connection is to be cut then.
 */
export function createNixRequests(
  options: NixRequestsOptions,
): (request: IncomingMessage, response: ServerResponse) => Promise<void> {
  const { secret, upstream, cacheUrl, cacheInfoUrl, known, source, readAhead, wrong } = options;
  const { stallMs, statistics } = options;

  const sendMiss = (response: ServerResponse, reason: NixMissReason): void => {
    statistics.nix.miss(reason);
    sendText(response, 404, "text/plain", `${MISSES[reason]}\n`);
  };

  const cacheInfo = upstream.readText(cacheInfoUrl);
  const serveCacheInfo = async (response: ServerResponse): Promise<void> => {
    // The first thing a command of Nix asks.
    upstream.warmUp();
    // Whatever happens upstream there is an answer: without one Nix leaves the face alone for the rest of its life.
    const text = await Promise.race([cacheInfo, timeout(CACHE_INFO_DEADLINE_MS)]);
    sendText(response, 200, "text/x-nix-cache-info", cacheInfoOf(text));
  };

  const serveNarInfo = async (response: ServerResponse, hash: string): Promise<void> => {
    const isKnown = typeof known.get(hash) === "object";
    const path = await source.find(hash);
    if ("miss" in path) {
      sendMiss(response, path.miss);
      return;
    }
    if (wrong.has(hash)) {
      sendMiss(response, "error");
      return;
    }
    // To promise a NAR that cannot be had would only cost time.
    if (!upstream.isAsked) {
      sendMiss(response, "breaker-open");
      return;
    }
    statistics.nix.narinfo();
    if (isKnown) statistics.nix.saved(upstream.roundTripMs / NIX_CONNECTIONS);
    sendText(response, 200, "text/x-nix-narinfo", path.text);
    readAhead.want(path);
  };

  /** A NAR from the spool; `false` when it cannot be had from there. */
  const serveSpooled = async (
    request: IncomingMessage,
    response: ServerResponse,
    path: KnownPath,
    nar: SpooledNar,
  ): Promise<boolean> => {
    const range = readRange(request);
    const sizeBytes = nar.state === "complete" ? nar.writtenBytes : path.fileSize;
    const isChecked = sizeBytes === undefined || sizeBytes <= CHECKED_BYTES;
    const isReady = nar.state === "complete";
    if (isChecked) await Promise.race([nar.settled, timeout(stallMs)]);
    if (nar.state === "failed" || (isChecked && nar.state !== "complete")) {
      void nar.release();
      return false;
    }
    const totalBytes = sizeBytes ?? nar.writtenBytes;
    const start = Math.min(range?.start ?? 0, totalBytes);
    const end = Math.min(range?.end ?? totalBytes, totalBytes);
    if (range !== undefined && start >= end) {
      readAhead.giveBack(path, nar);
      return false;
    }
    response.writeHead(range === undefined ? 200 : 206, {
      "content-type": "application/x-nix-nar",
      "content-length": end - start,
      "accept-ranges": "bytes",
      ...(range && { "content-range": `bytes ${start}-${end - 1}/${totalBytes}` }),
    });
    try {
      const sentBytes = await sendChunks(response, nar.read(start, end));
      if (sentBytes !== end - start) throw new CacheError("TRUNCATED", "The spool ended early");
      statistics.nix.hit(sentBytes);
      if (isReady) statistics.nix.saved(upstream.roundTripMs / NIX_CONNECTIONS);
      void nar.release();
    } catch (error) {
      readAhead.giveBack(path, nar);
      throw error;
    }
    return true;
  };

  const serveNar = async (
    request: IncomingMessage,
    response: ServerResponse,
    name: string,
  ): Promise<void> => {
    const path = known.ofFile(name);
    const isHead = request.method === "HEAD";
    const spooled = path === undefined || isHead ? undefined : readAhead.take(path);
    if (path !== undefined && spooled !== undefined) {
      if (await serveSpooled(request, response, path, spooled)) return;
    }
    // Perhaps it has just turned out to be.
    if (path !== undefined && wrong.has(path.storePathHash)) {
      sendMiss(response, "error");
      return;
    }
    const range = readRange(request);
    const url = new URL(name, cacheUrl);
    if (isHead) {
      const answer = await upstream.open(url, { method: "HEAD" });
      if ("miss" in answer) sendMiss(response, answer.miss);
      else {
        await answer.body.dump();
        upstream.report();
        response.writeHead(200, narHeaders(answer.header)).end();
      }
      return;
    }
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    const stream = await openNarStream(upstream, url, {
      range,
      stallMs,
      signal: gone.signal,
    });
    if ("miss" in stream) {
      sendMiss(response, stream.miss);
      return;
    }
    const fileSize = stream.status === 200 ? path?.fileSize : undefined;
    if (fileSize !== undefined && (stream.sizeBytes ?? fileSize) !== fileSize) {
      await stream.chunks.return();
      upstream.report(`${name} has ${stream.sizeBytes} bytes, not ${fileSize}`);
      sendMiss(response, "error");
      return;
    }
    response.writeHead(stream.status, narHeaders(stream.header));
    statistics.nix.hit(await sendChunks(response, stream.chunks));
  };

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { method = "" } = request;
    const [given = "", ...rest] = (request.url ?? "").slice(1).split("/");
    const name = rest.join("/");
    const isAllowed = isSame(given, secret) && (method === "GET" || method === "HEAD");
    const [, hash = ""] = /^([0-9a-z]{32})\.narinfo$/.exec(name) ?? [];
    if (!isAllowed) sendText(response, 404, "text/plain", "There is nothing here.\n");
    else if (name === "nix-cache-info") await serveCacheInfo(response);
    else if (isStorePathHash(hash)) await serveNarInfo(response, hash);
    else if (isNarName(name)) await serveNar(request, response, name);
    else sendText(response, 404, "text/plain", "There is nothing here.\n");
  };

  return async (request, response) => {
    try {
      await answer(request, response);
    } catch (error) {
      if (response.headersSent) throw error;
      sendMiss(response, "error");
    }
  };
}

function sendText(response: ServerResponse, status: number, type: string, text: string): void {
  const bytes = Buffer.from(text);
  response.writeHead(status, { "content-type": type, "content-length": bytes.length });
  response.end(response.req.method === "HEAD" ? undefined : bytes);
}

function narHeaders(header: (name: string) => string | undefined): Record<string, string> {
  const passed = ["content-length", "content-range", "accept-ranges", "etag"];
  const given = passed.flatMap((name) => {
    const value = header(name);
    return value === undefined ? [] : [[name, value] as const];
  });
  return { "content-type": "application/x-nix-nar", ...Object.fromEntries(given) };
}

/** What Nix may ask for beside narinfos: files below the cache, by names that lead nowhere else. */
function isNarName(name: string): boolean {
  return name.startsWith("nar/") && !name.includes("..") && !name.includes("\\");
}

function isSame(given: string, secret: string): boolean {
  const [one, other] = [Buffer.from(given), Buffer.from(secret)];
  return one.length === other.length && timingSafeEqual(one, other);
}

function cacheInfoOf(text: unknown): string {
  let info = { storeDir: "/nix/store", priority: undefined as number | undefined };
  try {
    if (typeof text === "string") info = parseNixCacheInfo(text);
  } catch (error) {
    if (!isCacheError(error)) throw error;
  }
  return formatNixCacheInfo({ ...info, wantMassQuery: true });
}

function timeout(durationMs: number): Promise<undefined> {
  return new Promise((resolve) => setTimeout(() => resolve(undefined), durationMs).unref());
}
