import { CacheError, formatDurationMs } from "@glorious/core";

import { type CacheConfig, parseCacheConfig } from "./cache-config.ts";
import { systemClock } from "./clock.ts";
import { fromCacheServer } from "./from-cache-server.ts";
import type { RetryEnvironment } from "./push-session.ts";
import { DEFAULT_RETRY_POLICY, type RetryNotice, withRetry } from "./retry.ts";
import { parseServerUrl, requireViewName } from "./server-url.ts";
import { createShortClient, type ShortClient } from "./short-client.ts";

/** Options of {@link readCacheConfig}. */
export interface ReadCacheConfigOptions {
  readonly server: string;
  readonly view: string;
  readonly token?: string | undefined;
  readonly signal: AbortSignal;
}

/** How long a job waits, the repetition included. */
const TOTAL_TIMEOUT_MS = 10_000;
const ATTEMPTS = 2;

/**
 * What a server, ours or an atticd, says about a view: one short question.
 *
 * @throws {CacheError} as `openCache`.
 */
export async function readCacheConfig(options: ReadCacheConfigOptions): Promise<CacheConfig> {
  const base = parseServerUrl(options.server);
  const view = requireViewName(options.view);
  const timeout = AbortSignal.timeout(TOTAL_TIMEOUT_MS);
  const signal = AbortSignal.any([options.signal, timeout]);
  await using http = createShortClient({ token: options.token });
  const policy = { ...DEFAULT_RETRY_POLICY, maxAttempts: ATTEMPTS, maxTotalMs: TOTAL_TIMEOUT_MS };
  try {
    const retry = { policy, clock: systemClock, random: Math.random };
    return await askCacheConfig(http, base, view, { signal, retry });
  } catch (error) {
    if (!timeout.aborted || options.signal.aborted) throw error;
    const limit = formatDurationMs(TOTAL_TIMEOUT_MS);
    const message = `look-up of view ${view}: ${base.href} gave no answer in ${limit}`;
    throw new CacheError("TIMEOUT", message, { cause: error });
  }
}

/** The same over a connection that is there already. */
export async function askCacheConfig(
  http: Pick<ShortClient, "send">,
  base: URL,
  view: string,
  {
    signal,
    retry,
    onRetry,
  }: {
    readonly signal: AbortSignal | undefined;
    readonly retry: RetryEnvironment;
    readonly onRetry?: (notice: RetryNotice) => void;
  },
): Promise<CacheConfig> {
  const url = new URL(`_api/v1/cache-config/${view}`, base);
  const asked = withRetry(() => http.send("GET", url, { signal }), {
    what: `look-up of view ${view}`,
    ...retry,
    signal,
    onRetry,
  });
  const { text } = await fromCacheServer(base, asked);
  return parseCacheConfig(text, `GET ${url.href}`);
}
