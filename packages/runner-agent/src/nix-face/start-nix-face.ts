import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { createServer } from "node:http";

import { describeError, isCacheError, type Logger } from "@glorious/core";

import type { Credentials } from "../credentials.ts";
import type { Statistics } from "../statistics.ts";
import { createKnownPaths } from "./known-paths.ts";
import { createClosureSource, createPlainSource } from "./narinfo-source.ts";
import { createNixRequests } from "./nix-requests.ts";
import { createReadAhead } from "./read-ahead.ts";
import { createSpool } from "./spool.ts";
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
  const cacheInfoUrl = new URL("nix-cache-info", cacheUrl);
  const upstream = opened.use(
    createUpstream({
      probeUrl: cacheInfoUrl,
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

  const serve = createNixRequests({
    secret,
    upstream,
    cacheUrl,
    cacheInfoUrl,
    known,
    source,
    readAhead,
    wrong,
    stallMs,
    statistics,
  });
  const server = createServer({ noDelay: true, keepAliveTimeout: 120_000 }, (request, response) => {
    response.on("error", () => {});
    serve(request, response).catch((error: unknown) => {
      if (!isCacheError(error, "CANCELLED")) {
        logger.warn("an answer could not be completed", { error: describeError(error) });
      }
      // Nix tells a cut from an end by the length, or by the last chunk.
      response.destroy();
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

function portOf(address: ReturnType<ReturnType<typeof createServer>["address"]>): number {
  if (address === null || typeof address === "string") throw new Error("The face has no port");
  return address.port;
}
