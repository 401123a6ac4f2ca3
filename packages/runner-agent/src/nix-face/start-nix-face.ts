import { timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";

import { CacheError, describeError, isCacheError, type Logger } from "@glorious/core";
import { formatNixCacheInfo, isStorePathHash, parseNixCacheInfo } from "@glorious/nix-store";

import type { Credentials } from "../credentials.ts";
import type { NixMissReason, Statistics } from "../statistics.ts";
import { createKnownPaths, type KnownPath } from "./known-paths.ts";
import { openNarStream } from "./nar-stream.ts";
import { createClosureSource, createPlainSource } from "./narinfo-source.ts";
import { createReadAhead } from "./read-ahead.ts";
import { readRange, sendChunks } from "./serve-nar.ts";
import { createSpool, type SpooledNar } from "./spool.ts";
import { createUpstream } from "./upstream.ts";

/** The cache that a Nix face stands for. */
export interface NixUpstream {
  /** `flywheel` answers whole closures; `attic` is signed in to; `plain` is any binary cache. */
  readonly kind: "flywheel" | "attic" | "plain";
  /** What Nix would have as its substituter. */
  readonly substituterUrl: string;
  /** Our server's `_flywheel/v1/`. */
  readonly api?: URL | undefined;
  readonly view: string;
}

/** Options of {@link startNixFace}. */
export interface NixFaceOptions {
  /** First segment of the face's path; who does not know it is told nothing. */
  readonly secret: string;
  readonly upstream: NixUpstream;
  readonly credentials: Credentials;
  /** A folder for NARs that are read ahead; made when absent. */
  readonly spoolDirectory: string;
  /** How much may lie there; default 256 MiB. */
  readonly spoolBytes?: number | undefined;
  /** Whether to ask for closures and to read NARs ahead; default `true`. */
  readonly prefetch?: boolean | undefined;
  /** Larger NAR files are read when Nix asks for them; default 32 MiB. */
  readonly prefetchMaxBytes?: number | undefined;
  /** When the upstream must have begun to answer; default 5000. */
  readonly deadlineMs?: number | undefined;
  /** When a transfer that brings nothing counts as broken; default 10 000. */
  readonly stallMs?: number | undefined;
  readonly statistics: Statistics;
  readonly logger: Logger;
  /** Milliseconds that only ever grow; default the machine's own clock. */
  readonly nowMs?: (() => number) | undefined;
}

/** A substituter on this machine alone. */
export interface NixFace extends AsyncDisposable {
  /** For `substituters`; the secret is in it. */
  readonly url: string;
  /** Ends what is under way, and frees the spool. */
  close(): Promise<void>;
}

const DEFAULT_SPOOL_BYTES = 256 * 2 ** 20;
const DEFAULT_PREFETCH_MAX_BYTES = 32 * 2 ** 20;
const DEFAULT_DEADLINE_MS = 5000;
const DEFAULT_STALL_MS = 10_000;
/** NARs up to this size are served when they are here as a whole, and right. */
const CHECKED_BYTES = 2 ** 20;
/** Nix keeps so many connections busy by default: a lower bound of what it would have waited. */
const NIX_CONNECTIONS = 25;
/** Nix asks anew after a week by itself; no job lasts that long. */
const CACHE_INFO_DEADLINE_MS = 1500;
const MISSES: Readonly<Record<NixMissReason, string>> = {
  absent: "The cache does not have it.",
  "breaker-open": "The cache is in trouble and not asked for a while.",
  timeout: "The cache did not answer in time.",
  refused: "The cache refused the token.",
  error: "The cache answered with an error.",
};

/**
 * Starts a loopback substituter that holds the token and answers every request soon: what the cache has, or that it is
 * not there. Trouble upstream is a miss and never remembered as an absence. The address is another one for each
 * session, so that nothing Nix remembers on the disk outlives it.
 */
export async function startNixFace(options: NixFaceOptions): Promise<NixFace> {
  const { secret, upstream: cache, credentials, statistics, logger } = options;
  const { prefetch = true, nowMs = () => performance.now() } = options;
  const deadlineMs = options.deadlineMs ?? DEFAULT_DEADLINE_MS;
  const stallMs = options.stallMs ?? DEFAULT_STALL_MS;
  await using opened = new AsyncDisposableStack();
  const cacheUrl = new URL(cache.substituterUrl.replace(/\/*(\?.*)?$/, "/"));
  const probeUrl = new URL("nix-cache-info", cacheUrl);
  const upstream = opened.use(
    createUpstream({
      probeUrl,
      isForbiddenAbsent: cache.kind === "plain",
      credentials,
      deadlineMs,
      statistics,
      logger,
      nowMs,
    }),
  );
  const known = createKnownPaths(nowMs);
  const common = { upstream, known, cacheUrl, logger, nowMs };
  const closureUrl =
    cache.kind === "flywheel" && cache.api !== undefined && prefetch
      ? new URL(`views/${encodeURIComponent(cache.view)}/closure`, cache.api)
      : undefined;
  const source =
    closureUrl === undefined
      ? createPlainSource({ ...common, walksAhead: prefetch })
      : createClosureSource({ ...common, closureUrl });
  await mkdir(options.spoolDirectory, { recursive: true, mode: 0o700 });
  const spool = opened.use(
    createSpool({
      directory: options.spoolDirectory,
      maxBytes: options.spoolBytes ?? DEFAULT_SPOOL_BYTES,
    }),
  );
  /** Paths whose bytes were not what their narinfo says. */
  const wrong = new Set<string>();
  const readAhead = opened.use(
    createReadAhead({
      ...common,
      spool,
      maxNarBytes: prefetch ? (options.prefetchMaxBytes ?? DEFAULT_PREFETCH_MAX_BYTES) : 0,
      stallMs,
      statistics,
      onWrong: ({ storePathHash, url }) => {
        wrong.add(storePathHash);
        logger.warn("the cache sent wrong bytes", { storePathHash, url });
        statistics.warn(
          "The cache sent bytes that are not what it signed; these paths are built or fetched elsewhere",
        );
      },
    }),
  );

  const sendMiss = (response: ServerResponse, reason: NixMissReason): void => {
    statistics.nix.miss(reason);
    sendText(response, 404, "text/plain", `${MISSES[reason]}\n`);
  };

  const cacheInfo = upstream.readText(probeUrl, { size: "small" });
  const serveCacheInfo = async (response: ServerResponse): Promise<void> => {
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
    if (path !== undefined && wrong.has(path.storePathHash)) {
      sendMiss(response, "error");
      return;
    }
    const isHead = request.method === "HEAD";
    const spooled = path === undefined || isHead ? undefined : readAhead.take(path);
    if (path !== undefined && spooled !== undefined) {
      if (await serveSpooled(request, response, path, spooled)) return;
    }
    const range = readRange(request);
    const url = new URL(name, cacheUrl);
    if (isHead) {
      const answer = await upstream.open(url, { method: "HEAD", size: "large" });
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
      size: "large",
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

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
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

  const server = createServer({ noDelay: true, keepAliveTimeout: 120_000 }, (request, response) => {
    response.on("error", () => {});
    serve(request, response).catch((error: unknown) => {
      if (!isCacheError(error, "CANCELLED")) {
        logger.warn("an answer could not be completed", { error: describeError(error) });
      }
      // Nix tells a cut from an end by the length, or by the last chunk, and does without.
      if (response.headersSent) response.destroy();
      else sendMiss(response, "error");
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  opened.defer(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  });
  const owned = opened.move();
  return {
    url: `http://127.0.0.1:${portOf(server.address())}/${secret}`,
    close: () => owned.disposeAsync(),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
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

function portOf(address: ReturnType<ReturnType<typeof createServer>["address"]>): number {
  if (address === null || typeof address === "string") throw new Error("The face has no port");
  return address.port;
}
