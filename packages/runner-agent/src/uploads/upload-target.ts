import { readFile } from "node:fs/promises";

import {
  type Cache,
  openCache,
  type PathInfo,
  type PushEvent,
  queryClosure,
} from "@glorious/cache-client";
import { isCacheError } from "@glorious/core";

import type { UploaderOptions } from "./uploader.ts";

/** Options of {@link createUploadTarget}. */
export interface UploadTargetOptions {
  readonly server: string;
  readonly view: string;
  readonly nix: string;
  readonly storeDir: string;
  /** The current token, without white space around it; `undefined` when there is none. */
  readonly readToken: () => Promise<string | undefined>;
  /** The server refused the current token; tells whether there is another one. */
  readonly renewToken: () => Promise<boolean>;
}

/** The view that is pushed to. */
export interface UploadTarget extends AsyncDisposable {
  readonly push: UploaderOptions["push"];
  /** Of these paths those that no cache has signed: the ones that were built here. */
  keepUnsigned(paths: readonly string[], signal: AbortSignal): Promise<readonly string[]>;
}

/** What only a server that is there brings about; a retry is none of them. */
const PROGRESS: ReadonlySet<PushEvent["type"]> = new Set([
  "planned",
  "upload-progress",
  "upload-done",
  "committed",
]);

/** A request that does not move for so long is given up: the queue is the patient one. */
const IDLE_MS = 20_000;

/** Opens nothing until the first push. */
export function createUploadTarget(options: UploadTargetOptions): UploadTarget {
  const { server, view, nix, storeDir } = options;
  let open: { readonly cache: Cache; readonly token: string | undefined } | undefined;

  const close = async (): Promise<void> => {
    const closing = open;
    open = undefined;
    await closing?.cache[Symbol.asyncDispose]();
  };
  const connect = async (signal: AbortSignal): Promise<Cache> => {
    const token = await options.readToken();
    if (open !== undefined && open.token === token) return open.cache;
    await close();
    const cache = await openCache({
      server,
      view,
      token,
      signal,
      idleTimeoutMs: IDLE_MS,
      retry: { maxAttempts: 3, maxTotalMs: 30_000 },
    });
    open = { cache, token };
    return cache;
  };
  const withRenewal = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      const isRefusal = isCacheError(error, "UNAUTHENTICATED") || isCacheError(error, "FORBIDDEN");
      if (!isRefusal) throw error;
      await close();
      if (!(await options.renewToken())) throw error;
      return work();
    }
  };
  const query = (
    paths: readonly string[],
    recursive: boolean,
    signal: AbortSignal,
  ): Promise<PathInfo[]> => queryClosure(paths, { recursive, nix, storeDir, signal });

  return {
    async push(paths, { signal, onProgress }) {
      const closure = await query(paths.map(toOutputs), true, signal);
      return withRenewal(async () => {
        const cache = await connect(signal);
        return cache.push(closure, {
          signal,
          onEvent: ({ type }) => {
            if (PROGRESS.has(type)) onProgress();
          },
        });
      });
    },
    async keepUnsigned(paths, signal) {
      if (paths.length === 0) return [];
      const infos = await query(paths, false, signal);
      return infos
        .filter(({ signatures }) => signatures.length === 0)
        .map(({ storePath }) => storePath.path);
    },
    [Symbol.asyncDispose]: close,
  };
}

/** A derivation in the queue stands for what it made. */
function toOutputs(path: string): string {
  return path.endsWith(".drv") ? `${path}^*` : path;
}

/** Reads a token file. */
export async function readTokenFile(file: string): Promise<string | undefined> {
  const token = await readFile(file, "utf8").catch(() => "");
  return token.trim() === "" ? undefined : token.trim();
}
