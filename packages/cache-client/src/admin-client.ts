import { CacheError } from "@glorious/core";
import * as v from "valibot";

import {
  type CacheConfig,
  parseAnswer,
  parseCacheConfig,
  requireNoPage,
  type RetentionPeriod,
} from "./cache-config.ts";
import { systemClock } from "./clock.ts";
import { fromCacheServer } from "./from-cache-server.ts";
import {
  createHttpClient,
  type HttpMethod,
  type HttpRequestOptions,
  type TlsOptions,
} from "./http-client.ts";
import { ResponseError } from "./response-error.ts";
import {
  createRetentionClient,
  formatLimits,
  type OurRoutes,
  type RetentionClient,
  type ViewLimits,
} from "./retention-client.ts";
import { DEFAULT_RETRY_POLICY, withRetry } from "./retry.ts";
import { parseServerUrl, requireViewName } from "./server-url.ts";
import { createUpstreamsClient, type UpstreamsClient } from "./upstreams-client.ts";
import { type CommonsExplanation, CommonsExplanationSchema } from "./wire-commons.ts";
import {
  type AuditKind,
  type EntryAudit,
  EntryAuditSchema,
  LiftedSchema,
  type Revocation,
  RevocationListSchema,
  type RevocationReport,
  RevocationReportSchema,
  type RevocationRequest,
} from "./wire-provenance.ts";
import {
  formatScrubRequest,
  type QuarantineList,
  QuarantineListSchema,
  type ScrubReport,
  ScrubReportSchema,
  type ScrubRequest,
  type ScrubState,
  ScrubStateSchema,
} from "./wire-scrub.ts";
import { WarmAnswerSchema, warmAll, type WarmReport, type WarmRequest } from "./wire-warm.ts";

/** Options of {@link createAdminClient}. */
export interface AdminClientOptions {
  readonly server: string;
  readonly token?: string | undefined;
  readonly idleTimeoutMs?: number | undefined;
  readonly tls?: TlsOptions | undefined;
  /** Stops every call of this client. */
  readonly signal?: AbortSignal | undefined;
}

/** A view to be created. */
export interface NewView {
  /** Readable without a token; default false. */
  readonly isPublic?: boolean;
  /** Default `/nix/store`. */
  readonly storeDir?: string;
  /** Lower is asked first; default 41, just behind cache.nixos.org. */
  readonly priority?: number;
  /** Default `cache.nixos.org-1`. */
  readonly upstreamCacheKeyNames?: readonly string[];
  /** `<name>:<base64 of 64 bytes>`; by default the server makes a key, which never leaves it. */
  readonly keypair?: string;
}

/** What to change about a view; what is left out stays as it is. The limits are ours. */
export interface ViewChange extends ViewLimits {
  readonly isPublic?: boolean;
  readonly storeDir?: string;
  readonly priority?: number;
  readonly upstreamCacheKeyNames?: readonly string[];
  readonly retentionPeriod?: RetentionPeriod;
  /** A new key made by the server, or one to use instead: `<name>:<base64 of 64 bytes>`. */
  readonly keypair?: "generate" | { readonly secretKey: string };
}

/** A view as our server lists it. */
export interface ViewInfo {
  readonly name: string;
  readonly isPublic: boolean;
  readonly storeDir: string;
  readonly priority: number;
  readonly upstreamCacheKeyNames: readonly string[];
  /** Absent: the server's own rule. */
  readonly retentionSeconds?: number;
  /** Absent: no limit. */
  readonly maxSizeBytes?: number;
  /** Absent: the server's own. */
  readonly compressionLevel?: number;
  /** ISO 8601. */
  readonly createdAt?: string;
}

/** What a view holds and what was sent to it. */
export interface ViewStats {
  readonly paths: number;
  readonly nars: number;
  /** Uncompressed bytes. */
  readonly narBytes: number;
  /** Stored bytes. */
  readonly fileBytes: number;
  readonly uploads: number;
  readonly uploadedNarBytes: number;
  readonly conflicts: number;
  /** Of its Bazel face; `undefined` where there is none. */
  readonly bazel?: ViewBazelStats | undefined;
}

/** What a view holds for Bazel, and what was asked of it since the server's start. */
export interface ViewBazelStats {
  /** Instance names that hold something. */
  readonly instances: number;
  readonly blobs: number;
  readonly actions: number;
  readonly keyedValues: number;
  /** Uncompressed bytes. */
  readonly logicalBytes: number;
  readonly storedBytes: number;
  readonly actionHits: number;
  /** Those that were evicted included. */
  readonly actionsAbsent: number;
  /** ActionResults that were evicted lately, as far as the server's memory knows. */
  readonly actionsEvicted: number;
  /** ActionResults that were there and not given, because something that they need was not. */
  readonly actionsIncomplete: number;
  readonly blobsRead: number;
  /** Uncompressed bytes. */
  readonly bytesRead: number;
  readonly blobsStored: number;
  readonly bytesStored: number;
  readonly valueHits: number;
  readonly valueMisses: number;
}

/** A key that signs what a view serves; its secret stays with the server. */
export interface SigningKey {
  readonly name: string;
  /** `<name>:<base64>`, what goes into `trusted-public-keys`. */
  readonly publicKey: string;
  /** ISO 8601. */
  readonly createdAt: string;
}

/** The keys of a view, and how far it is signed with them. */
export interface SigningKeys {
  /** Oldest first. */
  readonly keys: readonly SigningKey[];
  /** Paths that are not signed with exactly these keys yet. */
  readonly outdatedPaths: number;
}

/** Attic's letters: pull, push, delete, create, configure, configure retention, destroy. */
export type PermissionLetter = "r" | "w" | "d" | "cc" | "cr" | "cq" | "cd";

/** A token to be made. */
export interface NewToken {
  readonly subject?: string;
  /** Per view name or pattern, what it may do. */
  readonly caches: Readonly<Record<string, readonly PermissionLetter[]>>;
  readonly isAdmin?: boolean;
  /** Default 90 days. */
  readonly expiresInSeconds?: number;
}

/** A token just made. The token itself is a secret. */
export interface CreatedToken {
  readonly token: string;
  /** What revokes it. */
  readonly jti: string;
  /** ISO 8601. */
  readonly expiresAt: string;
}

/** Which overlays are meant. */
export interface OverlaySelection {
  /** A full ref, such as `refs/heads/topic`. */
  readonly ref?: string | undefined;
  /** The number of a pull or merge request. */
  readonly pullRequest?: string | undefined;
  /** A full name. */
  readonly name?: string | undefined;
}

/** What a server of ours says about itself. */
export interface ServerInfo {
  readonly server: string;
  readonly version: string;
  readonly api: number;
}

/**
 * Management of one server. Views can be managed on an atticd too; the calls marked "ours" exist on our
 * server only and answer `UNSUPPORTED` elsewhere. Errors keep the server's message and `requestId`.
 */
export interface AdminClient extends RetentionClient, UpstreamsClient, AsyncDisposable {
  createView(name: string, view?: NewView): Promise<void>;
  viewConfig(name: string): Promise<CacheConfig>;
  /** @throws {CacheError} `INVALID` when nothing would change. */
  configureView(name: string, change: ViewChange): Promise<void>;
  destroyView(name: string): Promise<void>;
  /**
   * Deletes those overlays over a view that are meant and the token may delete, and returns their names. One of the three
   * is given. Ours.
   */
  deleteOverlays(view: string, meant: OverlaySelection): Promise<readonly string[]>;
  /** The views the token may see. Ours. */
  listViews(): Promise<ViewInfo[]>;
  /** Ours. */
  viewStats(name: string): Promise<ViewStats>;
  /** The store paths that a view itself holds, page by page, in order of their hashes. Ours; needs configure. */
  listPaths(view: string): AsyncIterable<string>;
  /** Takes one path out of a view, by its store path hash. Ours. */
  deletePath(view: string, storePathHash: string): Promise<void>;
  /** Ours. */
  listKeys(view: string): Promise<SigningKeys>;
  /**
   * Adds a key that signs beside those there are, and returns it; old paths are signed in the background. Ours.
   *
   * @param secretKey - `<name>:<base64 of 64 bytes>`; by default the server makes one.
   */
  addKey(view: string, secretKey?: string): Promise<SigningKey>;
  /** Takes a key from those that sign. @throws {CacheError} `CONFLICT` when it is the only one. Ours. */
  retireKey(view: string, name: string): Promise<void>;
  /** Ours; needs an admin token. */
  createToken(token: NewToken): Promise<CreatedToken>;
  /**
   * Ours; needs an admin token.
   *
   * @param expiresAtSeconds - When the token ends by itself, in seconds since 1970, so that the server
   * can forget it then.
   */
  revokeToken(jti: string, expiresAtSeconds?: number): Promise<void>;
  /** Who wrote and who read something. Ours; needs an admin token. */
  audit(kind: AuditKind, name: string): Promise<EntryAudit>;
  /** Why a path is in the commons, or is not. @throws {CacheError} `NOT_FOUND` where there is no commons. */
  explainCommons(storePathHash: string): Promise<CommonsExplanation>;
  /** Lets the server fetch what a view has not from the view's upstreams. Ours; needs a token that may pull. */
  warm(
    view: string,
    request: WarmRequest,
    onProgress?: (report: WarmReport) => void,
  ): Promise<WarmReport>;
  /** Hides what somebody wrote and refuses their tokens, or says what that would do. Ours; needs an admin token. */
  revoke(request: RevocationRequest): Promise<RevocationReport>;
  /** The latest revocations, the newest first. Ours; needs an admin token. */
  listRevocations(): Promise<readonly Revocation[]>;
  /** Takes a revocation back, or only what it says of tokens. Ours; needs an admin token. */
  liftRevocation(id: number, keepsHidden: boolean): Promise<{ readonly restored: number }>;
  /** Lets the server check what it stores, or joins or continues a scrub under way. Ours; needs an admin token. */
  scrub(request?: ScrubRequest): Promise<ScrubReport>;
  /** Ours; needs an admin token. */
  scrubState(): Promise<ScrubState>;
  /** Ours; needs an admin token. */
  listQuarantined(): Promise<QuarantineList>;
  /** Ours. */
  serverInfo(): Promise<ServerInfo>;
}

const DEFAULT_PRIORITY = 41;
const DEFAULT_UPSTREAM_KEY_NAMES = ["cache.nixos.org-1"];
const PATHS_PER_PAGE = 5000;
/** Only questions are repeated: whether a change went through before the connection broke is unknown. */
const QUESTION_ATTEMPTS = 3;

const Views = v.object({
  views: v.array(
    v.object({
      name: v.string(),
      isPublic: v.boolean(),
      storeDir: v.string(),
      priority: v.number(),
      upstreamCacheKeyNames: v.optional(v.array(v.string()), []),
      retentionSeconds: v.nullish(v.number()),
      maxSizeBytes: v.nullish(v.number()),
      compressionLevel: v.nullish(v.number()),
      createdAt: v.nullish(v.string()),
    }),
  ),
});
const PathsPage = v.object({
  paths: v.array(v.object({ storePath: v.string() })),
  next: v.optional(v.string()),
});
const DeletedOverlays = v.object({ deleted: v.array(v.string()) });
const Stats = v.object({
  paths: v.number(),
  nars: v.number(),
  narBytes: v.number(),
  fileBytes: v.number(),
  uploads: v.number(),
  uploadedNarBytes: v.number(),
  conflicts: v.number(),
  bazel: v.optional(
    v.object({
      instances: v.number(),
      blobs: v.number(),
      actions: v.number(),
      keyedValues: v.number(),
      logicalBytes: v.number(),
      storedBytes: v.number(),
      actionHits: v.number(),
      actionsAbsent: v.number(),
      actionsEvicted: v.optional(v.number(), 0),
      actionsIncomplete: v.number(),
      blobsRead: v.number(),
      bytesRead: v.number(),
      blobsStored: v.number(),
      bytesStored: v.number(),
      valueHits: v.number(),
      valueMisses: v.number(),
    }),
  ),
});
const Key = v.object({ name: v.string(), publicKey: v.string(), createdAt: v.string() });
const Keys = v.object({ keys: v.array(Key), outdatedPaths: v.number() });
const Token = v.object({ token: v.string(), jti: v.string(), expiresAt: v.string() });
const Info = v.object({ server: v.string(), version: v.string(), api: v.number() });

/**
 * Creates a client for managing views and tokens; nothing is sent until it is asked something.
 *
 * @throws {CacheError} `INVALID` when the server's address is none.
 */
export function createAdminClient(options: AdminClientOptions): AdminClient {
  const base = parseServerUrl(options.server);
  const { signal } = options;
  const http = createHttpClient(options);

  const send = async (
    method: HttpMethod,
    path: string,
    request: HttpRequestOptions = {},
  ): Promise<string> => {
    const url = new URL(path, base);
    const attempt = async (): Promise<string> => {
      const { text } = await http.send(method, url, { ...request, signal });
      // Whoever answers everything with a page has done nothing of what was asked.
      return requireNoPage(text, `${method} ${url.origin}${url.pathname}`);
    };
    if (method !== "GET") return attempt();
    return withRetry(attempt, {
      what: `GET ${url.href}`,
      policy: { ...DEFAULT_RETRY_POLICY, maxAttempts: QUESTION_ATTEMPTS },
      clock: systemClock,
      random: Math.random,
      signal,
    });
  };
  const sendOurs = (method: HttpMethod, path: string, json: unknown): Promise<string> =>
    onlyOurs(send(method, `_flywheel/v1/${path}`, json === undefined ? {} : { json }));
  const ask: OurRoutes["ask"] = async (schema, method, path, json) => {
    const text = await sendOurs(method, path, json);
    return parseAnswer(schema, text, `${method} ${base.href}_flywheel/v1/${path}`);
  };
  const tell: OurRoutes["tell"] = async (method, path, json) => {
    await sendOurs(method, path, json);
  };
  return {
    ...createRetentionClient({ ask, tell }),
    ...createUpstreamsClient({ ask }),
    createView: async (name, view = {}) => {
      await send("POST", configPath(name), { json: formatNewView(view) });
    },
    viewConfig: async (name) => {
      const path = configPath(name);
      const answer = await fromCacheServer(base, send("GET", path));
      return parseCacheConfig(answer, `GET ${base.href}${path}`);
    },
    configureView: async (name, change) => {
      const json = formatViewChange(change);
      const limits = formatLimits(change);
      const [isChanged, isLimited] = [json, limits].map((part) => Object.keys(part).length > 0);
      if (isChanged !== true && isLimited !== true) {
        throw new CacheError("INVALID", `Nothing to change about view ${name} was named`);
      }
      // First, because an atticd refuses it: then nothing is changed.
      if (isLimited === true) await tell("PATCH", `views/${requireViewName(name)}`, limits);
      if (isChanged === true) await send("PATCH", configPath(name), { json });
    },
    destroyView: async (name) => {
      await send("DELETE", configPath(name));
    },
    deleteOverlays: async (view, { ref, pullRequest, name }) => {
      const query = new URLSearchParams();
      for (const [key, value] of Object.entries({ ref, pullRequest, name })) {
        if (value !== undefined) query.set(key, value);
      }
      const path = `views/${requireViewName(view)}/overlays?${query.toString()}`;
      return (await ask(DeletedOverlays, "DELETE", path)).deleted;
    },
    listViews: async () => (await ask(Views, "GET", "views")).views.map(toViewInfo),
    viewStats: (name) => ask(Stats, "GET", `views/${requireViewName(name)}/stats`),
    async *listPaths(view) {
      for (let after = ""; ;) {
        const path = `views/${requireViewName(view)}/paths?limit=${PATHS_PER_PAGE}&after=${after}`;
        const { paths, next } = await ask(PathsPage, "GET", path);
        for (const { storePath } of paths) yield storePath;
        if (next === undefined) return;
        after = next;
      }
    },
    deletePath: async (view, storePathHash) => {
      const path = `views/${requireViewName(view)}/paths/${encodeURIComponent(storePathHash)}`;
      await tell("DELETE", path);
    },
    listKeys: (view) => ask(Keys, "GET", keysPath(view)),
    addKey: (view, secretKey) =>
      ask(Key, "POST", keysPath(view), secretKey === undefined ? {} : { keypair: secretKey }),
    retireKey: async (view, name) => {
      await tell("DELETE", `${keysPath(view)}/${encodeURIComponent(name)}`);
    },
    createToken: (token) => ask(Token, "POST", "tokens", formatNewToken(token)),
    revokeToken: async (jti, expiresAtSeconds) => {
      const query = expiresAtSeconds === undefined ? "" : `?expiresAt=${expiresAtSeconds}`;
      await tell("DELETE", `tokens/${encodeURIComponent(jti)}${query}`);
    },
    audit: (kind, name) =>
      ask(EntryAuditSchema, "GET", `audit/${kind}/${encodeURIComponent(name)}`),
    explainCommons: (storePathHash) =>
      ask(CommonsExplanationSchema, "GET", `commons/paths/${storePathHash}`),
    warm: (view, request, onProgress = () => {}) =>
      warmAll(
        request,
        (body) => ask(WarmAnswerSchema, "POST", `views/${requireViewName(view)}/warm`, body),
        onProgress,
      ),
    revoke: (request) => ask(RevocationReportSchema, "POST", "revocations", request),
    listRevocations: async () =>
      (await ask(RevocationListSchema, "GET", "revocations")).revocations,
    liftRevocation: (id, keepsHidden) =>
      ask(LiftedSchema, "DELETE", `revocations/${id}${keepsHidden ? "?keepHidden=1" : ""}`),
    scrub: (request = {}) => ask(ScrubReportSchema, "POST", `scrub?${formatScrubRequest(request)}`),
    scrubState: () => ask(ScrubStateSchema, "GET", "scrub"),
    listQuarantined: () => ask(QuarantineListSchema, "GET", "quarantine"),
    serverInfo: () => ask(Info, "GET", "info"),
    [Symbol.asyncDispose]: () => http[Symbol.asyncDispose](),
  };
}

function configPath(name: string): string {
  return `_api/v1/cache-config/${requireViewName(name)}`;
}

function keysPath(view: string): string {
  return `views/${requireViewName(view)}/keys`;
}

function toViewInfo(view: v.InferOutput<typeof Views>["views"][number]): ViewInfo {
  const { retentionSeconds, maxSizeBytes, compressionLevel, createdAt } = view;
  return {
    name: view.name,
    isPublic: view.isPublic,
    storeDir: view.storeDir,
    priority: view.priority,
    upstreamCacheKeyNames: view.upstreamCacheKeyNames,
    ...(typeof retentionSeconds === "number" && { retentionSeconds }),
    ...(typeof maxSizeBytes === "number" && { maxSizeBytes }),
    ...(typeof compressionLevel === "number" && { compressionLevel }),
    ...(typeof createdAt === "string" && { createdAt }),
  };
}

/** An atticd does not know our routes and says so without a kind of ours; that is no missing view. */
async function onlyOurs<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    const isUnknownRoute =
      error instanceof ResponseError &&
      (error.status === 404 || error.status === 405) &&
      error.kind !== error.code;
    if (!isUnknownRoute) throw error;
    throw new CacheError("UNSUPPORTED", `This server has no such route: ${error.message}`, {
      cause: error,
      hint: "The call needs a GloriousFlywheel cache server; an atticd does not offer it.",
    });
  }
}

function formatNewView(view: NewView): Record<string, unknown> {
  return {
    keypair: view.keypair === undefined ? "Generate" : { Keypair: view.keypair },
    is_public: view.isPublic ?? false,
    store_dir: view.storeDir ?? "/nix/store",
    priority: view.priority ?? DEFAULT_PRIORITY,
    upstream_cache_key_names: view.upstreamCacheKeyNames ?? DEFAULT_UPSTREAM_KEY_NAMES,
  };
}

function formatViewChange(change: ViewChange): Record<string, unknown> {
  const { keypair, retentionPeriod } = change;
  const json = {
    keypair: keypair === "generate" ? "Generate" : keypair && { Keypair: keypair.secretKey },
    is_public: change.isPublic,
    store_dir: change.storeDir,
    priority: change.priority,
    upstream_cache_key_names: change.upstreamCacheKeyNames,
    retention_period:
      retentionPeriod === "global"
        ? "Global"
        : retentionPeriod && { Period: retentionPeriod.seconds },
  };
  return Object.fromEntries(Object.entries(json).filter(([, value]) => value !== undefined));
}

function formatNewToken(token: NewToken): Record<string, unknown> {
  return {
    subject: token.subject,
    caches: Object.fromEntries(
      Object.entries(token.caches).map(([pattern, letters]) => [
        pattern,
        Object.fromEntries(letters.map((letter) => [letter, 1])),
      ]),
    ),
    ...(token.isAdmin === true && { admin: 1 }),
    expiresInSeconds: token.expiresInSeconds,
  };
}
