import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { createServer } from "node:http";

import { describeError, isCacheError, type Logger } from "@glorious/core";

import type { Credentials } from "../credentials.ts";
import type { Statistics } from "../statistics.ts";
import { cacheUrlOf, type NixCache, type NixUpstream, openNixCache } from "./nix-cache.ts";
import { createNixRequests, type NixRequests } from "./nix-requests.ts";
import { createSpool } from "./spool.ts";
import { createUpstreamHealth } from "./upstream-health.ts";

/** Options of {@link startNixFace}. */
export interface NixFaceOptions {
  /** First segment of the face's path; who does not know it is told nothing. */
  readonly secret: string;
  /** What it stands for; without it there is nothing in it until {@link NixFace.open}. */
  readonly upstream?: NixUpstream | undefined;
  /** Further caches of the same server, asked in this order for what those before do not have. */
  readonly extra?: readonly NixUpstream[] | undefined;
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
  /** Says, once, which caches it stands for. */
  open(upstream: NixUpstream, extra: readonly NixUpstream[]): void;
  /** Does before the first question what it would wait for. */
  prepare(): void;
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
  const { secret, credentials, statistics, logger } = options;
  const { prefetch = true, nowMs = () => performance.now() } = options;
  const deadlineMs = options.deadlineMs ?? DEFAULT_DEADLINE_MS;
  const stallMs = options.stallMs ?? DEFAULT_STALL_MS;
  await using starting = new AsyncDisposableStack();
  await mkdir(options.spoolDirectory, { recursive: true, mode: 0o700 });
  const spool = starting.use(
    createSpool({
      directory: options.spoolDirectory,
      maxBytes: options.spoolBytes ?? DEFAULT_SPOOL_BYTES,
    }),
  );
  // Closed before the spool that they share.
  const opened = starting.use(new AsyncDisposableStack());
  const serving = { secret, stallMs, statistics };
  const openCaches = (cache: NixUpstream, more: readonly NixUpstream[]): NixRequests => {
    const health = createUpstreamHealth({
      origin: cacheUrlOf(cache).origin,
      ...{ statistics, logger, nowMs },
    });
    const open = (each: NixUpstream): NixCache =>
      opened.use(
        openNixCache(each, {
          isExtra: each !== cache,
          prefetchMaxBytes: options.prefetchMaxBytes ?? DEFAULT_PREFETCH_MAX_BYTES,
          ...{ credentials, health, spool, prefetch, deadlineMs, stallMs },
          ...{ statistics, logger, nowMs },
        }),
      );
    return createNixRequests({ ...serving, first: open(cache), extra: more.map(open) });
  };
  let requests =
    options.upstream === undefined
      ? createNixRequests({ ...serving, first: undefined, extra: [] })
      : openCaches(options.upstream, options.extra ?? []);
  const server = createServer({ noDelay: true, keepAliveTimeout: 120_000 }, (request, response) => {
    response.on("error", () => {});
    requests.serve(request, response).catch((error: unknown) => {
      if (!isCacheError(error, "CANCELLED")) {
        logger.warn("an answer could not be completed", { error: describeError(error) });
      }
      // Nix tells a cut from an end by the length, or by the last chunk.
      response.destroy();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  starting.defer(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  });
  const owned = starting.move();
  return {
    url: `http://127.0.0.1:${portOf(server.address())}/${secret}`,
    open: (cache, extra) => {
      requests = openCaches(cache, extra);
    },
    prepare: () => requests.prepare(),
    close: () => owned.disposeAsync(),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function portOf(address: ReturnType<ReturnType<typeof createServer>["address"]>): number {
  if (address === null || typeof address === "string") throw new Error("The face has no port");
  return address.port;
}
