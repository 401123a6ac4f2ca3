import type { Logger } from "@glorious/core";
import type { BlobStore } from "@glorious/storage";
import { createTokenVerifier } from "@glorious/trust";

import { createPathCommitter } from "./commit/path-committer.ts";
import type { ServerSettings } from "./config/settings.ts";
import type { TokenKeys } from "./config/token-keys.ts";
import { startSweeper } from "./housekeeping/sweeper.ts";
import { type Listener, startListener } from "./http/listener.ts";
import { createRequestHandler } from "./http/request-handler.ts";
import type { CacheIndex } from "./index/cache-index.ts";
import { createNarIngest } from "./ingest/nar-ingest.ts";
import { allRoutes } from "./routes/all-routes.ts";
import type { RouteServices } from "./routes/route-services.ts";
import { createTrustGate } from "./trust/trust-gate.ts";
import { SERVER_VERSION } from "./version.ts";

/** What a server stands on. It uses them and does not close them. */
export interface ServerParts {
  readonly settings: ServerSettings;
  readonly index: CacheIndex;
  readonly store: BlobStore;
  readonly tokenKeys: TokenKeys;
  readonly logger: Logger;
  /** Milliseconds since the epoch; the system's clock by default. */
  readonly now?: () => number;
}

/** A running server. Disposing of it finishes running requests first, up to the shutdown timeout. */
export interface CacheServer extends AsyncDisposable {
  /** Where it listens, without a final slash. */
  readonly url: string;
  close(): Promise<void>;
}

/** How long a second upload of one NAR waits for the first before it does the work itself. */
const MAX_DUPLICATE_WAIT_MS = 30_000;

/** @throws {CacheError} `CONFIG` when the address, the TLS files or the token keys are unusable. */
export async function startCacheServer(parts: ServerParts): Promise<CacheServer> {
  const { settings, index, store, tokenKeys, logger, now = Date.now } = parts;
  const verifier = createTokenVerifier({
    keys: tokenKeys.keys,
    issuer: settings.tokenIssuer,
    audiences: settings.tokenAudiences,
    requireExpiry: settings.tokenRequireExpiry,
  });
  const gate = createTrustGate({ index, verifier, now });
  const services: RouteServices = {
    index,
    store,
    gate,
    ingest: createNarIngest({
      index,
      store,
      now,
      maxNarSizeBytes: settings.maxNarSizeBytes,
      level: settings.compressionLevel,
      pendingMaxAgeMs: settings.pendingNarMaxAgeMs,
      uploadedFileMaxAgeMs: settings.uploadedFileMaxAgeMs,
      maxWaitMs: MAX_DUPLICATE_WAIT_MS,
    }),
    committer: createPathCommitter({ index, logger, now }),
    logger,
    now,
    limits: settings,
    publicUrl: settings.publicUrl,
    signingTokenKey: tokenKeys.signing,
    version: SERVER_VERSION,
  };
  const stopping = new AbortController();
  const listener = await startListener(
    createRequestHandler({
      routes: allRoutes(services),
      gate,
      logger,
      logsRequests: settings.logRequests,
      allowedHosts: settings.allowedHosts,
      signal: stopping.signal,
    }),
    {
      listen: settings.listen,
      tls:
        settings.tlsCert === undefined || settings.tlsKey === undefined
          ? undefined
          : {
              cert: settings.tlsCert,
              key: settings.tlsKey,
              clientCa: settings.tlsClientCa,
              reloadIntervalMs: settings.tlsReloadIntervalMs,
            },
      idleTimeoutMs: settings.idleTimeoutMs,
      logger,
    },
  );
  const sweeper = startSweeper({
    index,
    store,
    logger,
    now,
    objectGraceMs: settings.objectGraceMs,
    intervalMs: settings.sweepIntervalMs,
  });
  logger.info("listening", { url: listener.url, version: SERVER_VERSION });
  return createHandle(listener, sweeper, stopping, settings.shutdownTimeoutMs);
}

function createHandle(
  listener: Listener,
  sweeper: { stop(): Promise<void> },
  stopping: AbortController,
  timeoutMs: number,
): CacheServer {
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= (async () => {
      await sweeper.stop();
      await listener.close(timeoutMs, () => stopping.abort());
    })();
    return closing;
  };
  return { url: listener.url, close, [Symbol.asyncDispose]: close };
}
