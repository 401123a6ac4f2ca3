import type { IncomingMessage, ServerResponse } from "node:http";

import { CacheError } from "@glorious/core";

import type { Statistics } from "../statistics.ts";
import type { KnownPath } from "./known-paths.ts";
import { type FileRange, openNarStream } from "./nar-stream.ts";
import type { NixCache } from "./nix-cache.ts";
import { sendChunks } from "./send-chunks.ts";
import type { SpooledNar } from "./spool.ts";
import type { Miss } from "./upstream.ts";

/** Which file of which cache. */
export interface NarQuestion {
  /** Below the cache's address. */
  readonly name: string;
  readonly cache: NixCache;
  readonly stallMs: number;
  readonly statistics: Statistics;
}

/** Nix keeps so many connections busy by default: a lower bound of what it would have waited. */
export const NIX_CONNECTIONS = 25;
/** NARs up to this size are served when they are here as a whole, and right. */
const CHECKED_BYTES = 2 ** 20;

/**
 * Answers with a file of a cache, from the spool or from the cache itself. A {@link Miss}: nothing was answered yet.
 *
 * Rejects when an answer that was begun cannot be completed.
 */
export async function serveNar(
  request: IncomingMessage,
  response: ServerResponse,
  question: NarQuestion,
): Promise<Miss | undefined> {
  const { name, cache } = question;
  const path = cache.known.ofFile(name);
  if (request.method === "HEAD") return serveHead(response, question);
  const spooled = path === undefined ? undefined : cache.readAhead.take(path);
  if (path !== undefined && spooled !== undefined) {
    if (await serveSpooled(request, response, { ...question, path, nar: spooled }))
      return undefined;
  }
  // Perhaps it has just turned out to be.
  if (path !== undefined && cache.wrong.has(path.storePathHash)) return { miss: "error" };
  return passOn(request, response, { ...question, path });
}

/** A NAR from the spool; `false` when it cannot be had from there. */
async function serveSpooled(
  request: IncomingMessage,
  response: ServerResponse,
  { cache, path, nar, stallMs, statistics }: SpooledQuestion,
): Promise<boolean> {
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
    cache.readAhead.giveBack(path, nar);
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
    statistics.nix.hit(sentBytes, cache.view);
    if (isReady) statistics.nix.saved(cache.upstream.roundTripMs / NIX_CONNECTIONS);
    void nar.release();
  } catch (error) {
    cache.readAhead.giveBack(path, nar);
    throw error;
  }
  return true;
}

interface SpooledQuestion extends NarQuestion {
  readonly path: KnownPath;
  readonly nar: SpooledNar;
}

async function serveHead(
  response: ServerResponse,
  { name, cache: { upstream, cacheUrl } }: NarQuestion,
): Promise<Miss | undefined> {
  const answer = await upstream.readHead(new URL(name, cacheUrl));
  if ("miss" in answer) return answer;
  response.writeHead(200, narHeaders(answer.header)).end();
  return undefined;
}

/** A NAR as it comes from the cache. */
async function passOn(
  request: IncomingMessage,
  response: ServerResponse,
  question: NarQuestion & { readonly path: KnownPath | undefined },
): Promise<Miss | undefined> {
  const { name, path, stallMs, statistics } = question;
  const { upstream, cacheUrl, view } = question.cache;
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  const stream = await openNarStream(upstream, new URL(name, cacheUrl), {
    range: readRange(request),
    stallMs,
    signal: gone.signal,
  });
  if ("miss" in stream) return stream;
  const fileSize = stream.status === 200 ? path?.fileSize : undefined;
  if (fileSize !== undefined && (stream.sizeBytes ?? fileSize) !== fileSize) {
    await stream.chunks.return();
    upstream.report(`${name} has ${stream.sizeBytes} bytes, not ${fileSize}`);
    return { miss: "error" };
  }
  response.writeHead(stream.status, narHeaders(stream.header));
  statistics.nix.hit(await sendChunks(response, stream.chunks), view);
  return undefined;
}

function narHeaders(header: (name: string) => string | undefined): Record<string, string> {
  const passed = ["content-length", "content-range", "accept-ranges", "etag"];
  const given = passed.flatMap((name) => {
    const value = header(name);
    return value === undefined ? [] : [[name, value] as const];
  });
  return { "content-type": "application/x-nix-nar", ...Object.fromEntries(given) };
}

/** The one range of bytes that Nix asks for when it resumes; `undefined` for the whole file and for anything else. */
function readRange({ headers }: Pick<IncomingMessage, "headers">): FileRange | undefined {
  const [, start, end] = /^bytes=(\d{1,15})-(\d{0,15})$/.exec(headers.range ?? "") ?? [];
  if (start === undefined) return undefined;
  return { start: Number(start), ...(end ? { end: Number(end) + 1 } : {}) };
}

function timeout(durationMs: number): Promise<undefined> {
  return new Promise((resolve) => setTimeout(() => resolve(undefined), durationMs).unref());
}
