import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { CacheError, type Logger } from "@glorious/core";
import {
  type BlobStore,
  type FileLock,
  makeDurableDirectory,
  openFilesystemStore,
  tryLockFile,
} from "@glorious/storage";
import { CACHE_PERMISSIONS, createTokenVerifier, parseViewName, signToken } from "@glorious/trust";

import { bazelLimits, type BazelPlane, createBazelPlane } from "./bazel/bazel-plane.ts";
import { openClientBundles } from "./clients/client-bundles.ts";
import { type LoadOptions, loadSettings } from "./config/load-settings.ts";
import { loadOverlaySecret, openOwnOverlaySecret } from "./config/overlay-secret.ts";
import type { ServerSettings } from "./config/settings.ts";
import { loadTokenKeys, openOwnTokenKey, type TokenKeys } from "./config/token-keys.ts";
import type { CacheIndex, ViewRecord } from "./index/cache-index.ts";
import { openSqliteIndex } from "./index/sqlite-index.ts";
import { createLogger } from "./logger.ts";
import { type IndexChanges, openSqliteChanges } from "./read-cache/index-changes.ts";
import { createView } from "./routes/attic-config.ts";
import { bazelEndpoints } from "./routes/request-url.ts";
import { writeSecretFile } from "./secret-file.ts";
import { type CacheServer, startCacheServer } from "./server.ts";

export interface EmbeddedOptions extends LoadOptions {
  /** The view made at the first start. Default `main`. */
  readonly view?: string;
  /** Makes the view readable for everybody; `undefined` leaves it as it is, private at first. */
  readonly isPublic?: boolean | undefined;
  /** The client's bundle of this version, for jobs to fetch. */
  readonly clientBundle?: string | undefined;
  /** Where log lines go; by default to standard error, as the settings say. */
  readonly logger?: Logger;
}

/** The whole cache plane in one process: server, store and index in one data directory. */
export interface EmbeddedPlane extends AsyncDisposable {
  /** Where clients reach it, without a final slash. */
  readonly url: string;
  readonly view: string;
  /** The view's address, for Nix's `substituters`. */
  readonly substituter: string;
  /** The server and the view's HTTP cache for Bazel's `--remote_cache`; `undefined` where there is no Bazel cache. */
  readonly bazelGrpc: string | undefined;
  readonly bazelHttp: string | undefined;
  /** For Nix's `trusted-public-keys`. */
  readonly publicKey: string;
  /** Holds an administrator's token; only its owner can read it. */
  readonly tokenFile: string;
  /** Lets Nix authenticate with that token. */
  readonly netrcFile: string;
  readonly isPublic: boolean;
  /** True when this start made the data directory. */
  readonly isFirstStart: boolean;
  /** Stops accepting, finishes running requests, and closes store and index. */
  close(): Promise<void>;
}

const ADMIN_TOKEN_LIFE_MS = 365 * 24 * 3600 * 1000;
/** A start renews the token when it would not last this long. */
const ADMIN_TOKEN_MARGIN_MS = 30 * 24 * 3600 * 1000;

/**
 * Starts the embedded cache plane. Keys, view and token are made at the first start and found at every
 * later one.
 *
 * @throws {CacheError} `CONFIG` naming the setting, file or directory that is unusable; `INVALID` for a view's name.
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedPlane> {
  const settings = await loadSettings(options);
  const data = await openDataDirectory(settings);
  const logger = options.logger ?? createLogger({ level: settings.logLevel });
  const opened = new AsyncDisposableStack();
  try {
    opened.adopt(lockDataDirectory(data), (lock) => lock.release());
    const tokenKeys =
      settings.tokenKeys === undefined
        ? await openOwnTokenKey(join(data, "token.key"))
        : await loadTokenKeys(settings.tokenKeys);
    const overlaySecret =
      settings.overlayKeyFile === undefined
        ? await openOwnOverlaySecret(join(data, "overlay.key"))
        : await loadOverlaySecret(settings.overlayKeyFile);
    const indexFile = join(data, "index.sqlite");
    const index = opened.use(await openSqliteIndex({ file: indexFile, logger }));
    const indexChanges = opened.use(openSqliteChanges(indexFile));
    const store = opened.use(
      await openFilesystemStore({
        directory: join(data, "store"),
        fsync: settings.fsync,
        mustExist: (await index.listObjects({ limit: 1 })).length > 0,
        logger,
      }),
    );
    const bazel = settings.bazelEnabled
      ? opened.use(
          createBazelPlane({
            directory: join(data, "tenants"),
            index,
            limits: bazelLimits(settings),
            fsync: settings.fsync,
            logger,
            now: Date.now,
            recordsReads: settings.recordReads,
            provenanceMaxAgeMs: settings.provenanceMaxAgeMs,
          }),
        )
      : undefined;
    bazel?.start();
    return await startPlane({
      bazel,
      options,
      settings,
      data,
      tokenKeys,
      overlaySecret,
      index,
      indexChanges,
      store,
      logger,
      opened,
    });
  } catch (error) {
    await opened.disposeAsync();
    throw error;
  }
}

interface Parts {
  readonly bazel: BazelPlane | undefined;
  readonly options: EmbeddedOptions;
  readonly settings: ServerSettings;
  readonly data: string;
  readonly tokenKeys: TokenKeys;
  readonly overlaySecret: Uint8Array;
  readonly index: CacheIndex;
  readonly indexChanges: IndexChanges;
  readonly store: BlobStore;
  readonly logger: Logger;
  readonly opened: AsyncDisposableStack;
}

async function startPlane(parts: Parts): Promise<EmbeddedPlane> {
  const { options, settings, data, tokenKeys, index, opened } = parts;
  const { view, isNew } = await openView(index, options.view ?? "main", options.isPublic);
  const key = (await index.listSigningKeys(view.id)).at(-1);
  if (key === undefined) throw new Error(`The view ${view.name} has no signing key`);
  const server: CacheServer = opened.use(
    await startCacheServer({
      ...parts,
      defaultView: view.name,
      spoolDirectory: join(data, "upstream"),
      clients: await openClientBundles(join(data, "clients"), {
        own: options.clientBundle,
        logger: parts.logger,
      }),
    }),
  );
  const url = settings.publicUrl?.replace(/\/$/, "") ?? server.url;
  const tokenFile = join(data, "admin.token");
  const netrcFile = join(data, "netrc");
  const token = await openAdminToken(tokenFile, { tokenKeys, settings, index });
  await writeSecretFile(
    netrcFile,
    `machine ${new URL(url).hostname.replace(/^\[|\]$/g, "")}\nlogin flywheel\npassword ${token}\n`,
  );
  const bazel = parts.bazel && bazelEndpoints(`${url}/`, view.name);
  return {
    url,
    view: view.name,
    substituter: `${url}/${view.name}`,
    bazelGrpc: bazel?.grpc,
    bazelHttp: bazel?.http,
    publicKey: key.publicKey,
    tokenFile,
    netrcFile,
    isPublic: view.isPublic,
    isFirstStart: isNew,
    close: () => opened.disposeAsync(),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

async function openDataDirectory({
  dataDirectory: directory,
  fsync,
}: ServerSettings): Promise<string> {
  if (directory === undefined) {
    throw new CacheError("CONFIG", "No data directory is set", {
      hint: "Give one with --data or FLYWHEEL_DATA.",
    });
  }
  try {
    // Signing keys and tokens lie in it.
    await makeDurableDirectory(directory, fsync);
  } catch (cause) {
    const why = cause instanceof CacheError ? `: ${cause.message}` : "";
    throw new CacheError("CONFIG", `The data directory ${directory} cannot be used${why}`, {
      cause,
      hint: "Choose another with --data or FLYWHEEL_DATA.",
    });
  }
  return directory;
}

/** Two servers on one directory would sweep each other's objects and fight over the token. */
function lockDataDirectory(directory: string): FileLock {
  const lock = tryLockFile(join(directory, "server.lock"));
  if (lock !== undefined) return lock;
  throw new CacheError("CONFIG", `Another server is running on the data directory ${directory}`, {
    hint: "Stop it, or choose another directory with --data or FLYWHEEL_DATA.",
  });
}

async function openView(
  index: CacheIndex,
  name: string,
  isPublic: boolean | undefined,
): Promise<{ readonly view: ViewRecord; readonly isNew: boolean }> {
  const existing = await index.findView(name);
  if (existing !== undefined) {
    const isChanged = isPublic !== undefined && isPublic !== existing.isPublic;
    const changed = isChanged ? await index.updateView(name, { isPublic }) : existing;
    return { view: changed ?? existing, isNew: false };
  }
  parseViewName(name);
  const view = await createView(
    { index, now: Date.now },
    {
      name,
      isPublic: isPublic ?? false,
      storeDir: "/nix/store",
      priority: 41,
      upstreamCacheKeyNames: ["cache.nixos.org-1"],
    },
  );
  return { view, isNew: true };
}

/** The administrator's token in its file, made anew when it is missing, unusable, revoked or about to expire. */
async function openAdminToken(
  file: string,
  { tokenKeys, settings, index }: Pick<Parts, "tokenKeys" | "settings" | "index">,
): Promise<string> {
  const { keys, signing } = tokenKeys;
  const existing = await readFile(file, "utf8").catch(() => "");
  const verifier = createTokenVerifier({
    keys,
    issuer: settings.tokenIssuer,
    audiences: settings.tokenAudiences,
  });
  const verdict = await verifier.verify(existing.trim(), Date.now() + ADMIN_TOKEN_MARGIN_MS);
  if (verdict.kind === "valid" && verdict.claims.isAdmin) {
    const { jti } = verdict.claims;
    if (jti === undefined || !(await index.isTokenRevoked(jti))) return existing.trim();
  }
  if (signing === undefined) {
    throw new CacheError(
      "CONFIG",
      "The configured token keys cannot sign the administrator's token",
      {
        hint: `Add an HS256 key or an RS256 private key to tokens.keys, or put a token into ${file}.`,
      },
    );
  }
  const token = await signToken(signing, {
    subject: "admin",
    jti: crypto.randomUUID(),
    issuer: settings.tokenIssuer,
    audiences: settings.tokenAudiences,
    expiresAtMs: Date.now() + ADMIN_TOKEN_LIFE_MS,
    notBeforeMs: Date.now() - 60_000,
    caches: [["*", new Set(CACHE_PERMISSIONS)]],
    isAdmin: true,
  });
  await writeSecretFile(file, `${token}\n`);
  return token;
}
