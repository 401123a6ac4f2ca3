import { fileURLToPath } from "node:url";

import { CacheError, isCacheError } from "@glorious/core";

import { createAdminClient } from "../admin-client.ts";
import type { CacheConfig } from "../cache-config.ts";
import { systemClock } from "../clock.ts";
import { DEFAULT_RETRY_POLICY, type RetryPolicy } from "../retry.ts";
import { parseServerUrl, requireViewName } from "../server-url.ts";
import { openBinaryCache } from "./binary-cache-source.ts";
import type { CacheSource } from "./cache-source.ts";
import { openFolderFiles } from "./folder-files.ts";
import { openHttpFiles } from "./http-files.ts";

/** Options of {@link openSource}. */
export interface OpenSourceOptions {
  /** `http(s)://…` or `file:///…`: the folder or address that holds `nix-cache-info`. */
  readonly url: string;
  /** Whose signatures count, as in `trusted-public-keys`; `undefined` believes the source. */
  readonly keys: readonly string[] | undefined;
  /** A secret, sent as a bearer token. */
  readonly token?: string | undefined;
  /** An address that lists what there is, for a source that does not do so itself. */
  readonly index?: string | undefined;
  readonly retry?: Partial<RetryPolicy> | undefined;
  /** A download without a byte for this long is asked for again; default 60 000. */
  readonly idleTimeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Opens a binary cache to import from.
 *
 * @throws {CacheError} `INVALID` for an address or key that is none; `UNSUPPORTED` when no binary cache is there; what the
 *   network says.
 */
export async function openSource(options: OpenSourceOptions): Promise<CacheSource> {
  const { url, keys, token, index, signal } = options;
  if (url.startsWith("file:")) {
    return openBinaryCache(openFolderFiles(toFolder(url)), keys, signal);
  }
  const files = openHttpFiles({
    base: parseServerUrl(url),
    token,
    index: index === undefined ? undefined : requireAddress(index),
    retry: { ...DEFAULT_RETRY_POLICY, ...options.retry },
    clock: systemClock,
    random: Math.random,
    idleTimeoutMs: options.idleTimeoutMs,
  });
  try {
    return await openBinaryCache(files, keys, signal);
  } catch (error) {
    await files[Symbol.asyncDispose]();
    throw error;
  }
}

/** An Attic server's cache, and what the server says about it. */
export interface AtticSource {
  readonly source: CacheSource;
  readonly config: CacheConfig;
}

/**
 * Opens a cache of an Attic server. Its own key is believed when none is given: the server says it over the connection
 * that the token goes over.
 *
 * @throws {CacheError} as the server says; otherwise as {@link openSource}.
 */
export async function openAtticSource(
  options: Omit<OpenSourceOptions, "url"> & { readonly server: string; readonly cache: string },
): Promise<AtticSource> {
  const { server, cache, token, signal } = options;
  await using admin = createAdminClient({ server, token, signal });
  const config = await admin.viewConfig(cache).catch((error: unknown) => {
    if (!isCacheError(error, "UNSUPPORTED")) throw error;
    throw new CacheError(
      "UNSUPPORTED",
      `${server} does not answer as Attic's API does: ${error.message}`,
      {
        cause: error,
        hint: "Name the address of its API; a static binary cache is imported with --from URL --key KEY.",
      },
    );
  });
  const { publicKey } = config;
  const keys = options.keys ?? (publicKey === undefined ? undefined : [publicKey]);
  const url = new URL(`${requireViewName(cache)}/`, parseServerUrl(server)).href;
  return { source: await openSource({ ...options, url, keys }), config };
}

function toFolder(url: string): string {
  try {
    return fileURLToPath(url);
  } catch (cause) {
    throw new CacheError("INVALID", `${JSON.stringify(url)} names no folder of this machine`, {
      cause,
      hint: "Write it with three slashes: file:///srv/cache.",
    });
  }
}

function requireAddress(text: string): URL {
  const url = URL.parse(text);
  if (url !== null && /^https?:$/.test(url.protocol) && url.username === "") return url;
  throw new CacheError("INVALID", `${JSON.stringify(text)} is no address of an index`);
}
