import { timingSafeEqual } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";

import { isCacheError } from "@glorious/core";
import { formatNixCacheInfo, isStorePathHash, parseNixCacheInfo } from "@glorious/nix-store";

import type { NixMissReason, Statistics } from "../statistics.ts";
import type { KnownPath } from "./known-paths.ts";
import type { NixCache } from "./nix-cache.ts";
import { NIX_CONNECTIONS, serveNar } from "./serve-nar.ts";
import type { Miss } from "./upstream.ts";

/** What the face's requests are answered with. */
export interface NixRequestsOptions {
  readonly secret: string;
  /** `undefined` while nobody knows which it is: there is nothing yet. */
  readonly first: NixCache | undefined;
  /** Asked in this order for what those before do not have. */
  readonly extra: readonly NixCache[];
  readonly stallMs: number;
  readonly statistics: Statistics;
}

const CACHE_INFO_DEADLINE_MS = 1500;
const MISSES: Readonly<Record<NixMissReason, string>> = {
  absent: "The cache does not have it.",
  "not-reached": "The cache has not answered yet.",
  "breaker-open": "The cache is in trouble and not asked for a while.",
  timeout: "The cache did not answer in time.",
  refused: "The cache refused the token.",
  error: "The cache answered with an error.",
};

/** The caches are on one server: to wait for it once more would double the time that its trouble costs. */
function isServerTrouble({ miss }: Miss): boolean {
  return miss === "timeout" || miss === "breaker-open";
}

/** Its bytes were not what it says: nobody is told of it again. */
const WRONG: Miss = { miss: "error" };

interface FoundPath {
  readonly cache: NixCache;
  readonly path: KnownPath;
  /** It was here before Nix asked. */
  readonly isKnown: boolean;
}

/** What answers Nix. */
export interface NixRequests {
  /** Rejects when an answer cannot be completed: its connection is to be cut then. */
  serve(request: IncomingMessage, response: ServerResponse): Promise<void>;
  /** Does before the first question what it would wait for. */
  prepare(): void;
}

/** Answers what Nix asks of a binary cache; everything else is not there. */
export function createNixRequests(options: NixRequestsOptions): NixRequests {
  const { secret, first, extra, stallMs, statistics } = options;
  const caches = first === undefined ? [] : [first, ...extra];

  const sendMiss = (response: ServerResponse, reason: NixMissReason): void => {
    statistics.nix.miss(reason);
    sendText(response, 404, "text/plain", `${MISSES[reason]}\n`);
  };

  let cacheInfo: Promise<unknown> | undefined;
  const readCacheInfo = (): Promise<unknown> =>
    (cacheInfo ??= first?.upstream.readText(first.cacheInfoUrl) ?? Promise.resolve(undefined));
  const serveCacheInfo = async (response: ServerResponse): Promise<void> => {
    // The first thing a command of Nix asks.
    void first?.upstream.warmUp();
    // Whatever happens upstream there is an answer: without one Nix leaves the face alone for the rest of its life.
    const text = await Promise.race([readCacheInfo(), timeout(CACHE_INFO_DEADLINE_MS)]);
    sendText(response, 200, "text/x-nix-cache-info", cacheInfoOf(text));
  };

  /** What a closure brought stays with its cache; what nobody has learned of yet is asked for, in order. */
  const findPath = async (hash: string): Promise<FoundPath | Miss> => {
    for (const cache of caches) {
      const path = cache.known.get(hash);
      if (typeof path === "object" && !cache.wrong.has(hash)) return { cache, path, isKnown: true };
    }
    let miss: Miss = { miss: first === undefined ? "not-reached" : "absent" };
    for (const cache of caches) {
      const path = cache.wrong.has(hash) ? WRONG : await cache.source.find(hash);
      if (!("miss" in path)) return { cache, path, isKnown: false };
      if (miss.miss === "absent") miss = path;
      if (isServerTrouble(path)) break;
    }
    return miss;
  };

  const serveNarInfo = async (response: ServerResponse, hash: string): Promise<void> => {
    const found = await findPath(hash);
    if ("miss" in found) {
      sendMiss(response, found.miss);
      return;
    }
    const { cache, path, isKnown } = found;
    // To promise a NAR that cannot be had would only cost time.
    if (!cache.upstream.isAsked) {
      sendMiss(response, "breaker-open");
      return;
    }
    statistics.nix.narinfo();
    if (isKnown) statistics.nix.saved(cache.upstream.roundTripMs / NIX_CONNECTIONS);
    sendText(response, 200, "text/x-nix-narinfo", path.text);
    cache.readAhead.want(path);
  };

  const serveFile = async (
    request: IncomingMessage,
    response: ServerResponse,
    name: string,
  ): Promise<void> => {
    const knowing = caches.filter(({ known }) => known.ofFile(name) !== undefined);
    let reason: NixMissReason = first === undefined ? "not-reached" : "absent";
    for (const cache of knowing.length > 0 ? knowing : caches) {
      const answered = await serveNar(request, response, { name, cache, stallMs, statistics });
      if (answered === undefined) return;
      if (reason === "absent") reason = answered.miss;
      if (isServerTrouble(answered)) break;
    }
    sendMiss(response, reason);
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
    else if (isNarName(name)) await serveFile(request, response, name);
    else sendText(response, 404, "text/plain", "There is nothing here.\n");
  };

  return {
    prepare: () => void readCacheInfo(),
    async serve(request, response) {
      try {
        await answer(request, response);
      } catch (error) {
        if (response.headersSent) throw error;
        sendMiss(response, "error");
      }
    },
  };
}

function sendText(response: ServerResponse, status: number, type: string, text: string): void {
  const bytes = Buffer.from(text);
  response.writeHead(status, { "content-type": type, "content-length": bytes.length });
  response.end(response.req.method === "HEAD" ? undefined : bytes);
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
