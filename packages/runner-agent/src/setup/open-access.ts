import {
  type CacheConfig,
  chooseAudience,
  createExchangeClient,
  type Discovery,
  type ExchangedToken,
  findIdentity,
  type FoundIdentity,
  mayPush,
  obtainIdentityToken,
  parseServerUrl,
  readCacheConfig,
  readRunnerConfig,
  ResponseError,
  type RunnerConfig,
} from "@glorious/cache-client";
import { CacheError, describeError, isCacheError } from "@glorious/core";

import type { CredentialSettings } from "../session/session-state.ts";
import { identityLines, valueLines } from "./identity-lines.ts";
import type { SetupRequest } from "./setup-request.ts";
import type { Stopwatch } from "./stopwatch.ts";

/** What a job may do at a server, and how it gets there. */
export interface Access {
  readonly kind: "open";
  readonly server: string;
  /** The view that is read. */
  readonly view: string;
  /** The view that may be written. */
  readonly write?: string | undefined;
  readonly tenant?: string | undefined;
  readonly trust?: string | undefined;
  /** One plain sentence. */
  readonly reason: string;
  /** What to add to be allowed more. */
  readonly hint?: readonly string[] | undefined;
  readonly publicKeys: readonly string[];
  /** Where the view's paths belong; `undefined`: the server does not say. */
  readonly storeDir?: string | undefined;
  readonly upstream: "flywheel" | "attic";
  readonly substituterUrl: string;
  /** Where the server's own routes begin. */
  readonly api?: string | undefined;
  /** Where it serves Bazel: `grpc://…`. */
  readonly bazelUrl?: string | undefined;
  /** Nothing is known but the server, which has not answered yet. */
  readonly isPending?: boolean | undefined;
  /** Secret. */
  readonly token?: string | undefined;
  readonly credentials: CredentialSettings;
  readonly notices: readonly string[];
}

/** Why there is none. */
export interface NoAccess {
  readonly kind: "none";
  /** A server that had not answered when the time was up. */
  readonly lateServer?: string | undefined;
  /** `disabled`: it was configured so; `degraded`: something failed. */
  readonly status: "disabled" | "degraded";
  readonly reason: string;
  readonly hint?: readonly string[] | undefined;
}

/** What {@link openAccess} works with. */
export interface AccessContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
  readonly stopwatch: Stopwatch;
}

/** Whether the job is to write, as far as it says so itself. */
export function wantsWrite({ push, cacheMode }: SetupRequest): boolean {
  return push !== "false" && cacheMode !== "read" && cacheMode !== "none";
}

/**
 * Finds the server, shows it who the job is, and learns what it may do. A job without an identity reads what is public.
 *
 * Never rejects: what goes wrong is an answer.
 */
export async function openAccess(
  request: SetupRequest,
  context: AccessContext,
): Promise<Access | NoAccess> {
  let server: string | undefined;
  try {
    const runner = await readRunnerConfig(context.env);
    server = findServer(request, runner, context.env);
    if (server === undefined) return noServer(context.env);
    return await openServer(server, runner, request, context);
  } catch (error) {
    const reason = describeFailure(error, context.signal);
    const lateServer = context.signal.aborted ? server : undefined;
    return { kind: "none", status: "degraded", reason, lateServer };
  }
}

/** What goes for access to a server that has not answered yet: the job's own wishes. */
export function pendingAccess(
  server: string,
  request: SetupRequest,
  env: AccessContext["env"],
): Access {
  const view = findView(request, env);
  return {
    kind: "open",
    isPending: true,
    server,
    view: view ?? "",
    reason: `${server} has not answered yet: the job goes on, and its agent goes on asking.`,
    publicKeys: [],
    upstream: "flywheel",
    substituterUrl: server,
    token: request.token,
    credentials: { kind: "anonymous" },
    notices: [],
  };
}

/** The view that a job or its runner names. */
function findView({ view }: SetupRequest, env: AccessContext["env"]): string | undefined {
  return view ?? (env["FLYWHEEL_VIEW"] || env["ATTIC_CACHE"] || undefined);
}

function describeFailure(error: unknown, signal: AbortSignal): string {
  if (signal.aborted) return "The server took too long to answer";
  return describeError(error);
}

/** Whether a server may be named at all, which the runner's configuration alone decides when nothing else does. */
export function namesServer({ serverUrl }: SetupRequest, env: AccessContext["env"]): boolean {
  const names = ["FLYWHEEL_SERVER", "FLYWHEEL_RUNNER_CONFIG", "ATTIC_SERVER"];
  return serverUrl !== undefined || names.some((name) => (env[name] ?? "") !== "");
}

function findServer(
  request: SetupRequest,
  runner: RunnerConfig,
  env: AccessContext["env"],
): string | undefined {
  const named = request.serverUrl ?? (env["FLYWHEEL_SERVER"] || undefined) ?? runner.server;
  const found = named ?? (env["ATTIC_SERVER"] || undefined);
  return found === undefined ? undefined : parseServerUrl(found).href;
}

function noServer(env: AccessContext["env"]): NoAccess {
  return {
    kind: "none",
    status: "disabled",
    reason: "No server is named, neither by the job nor by its runner.",
    hint: valueLines(env, {
      input: "server-url",
      option: "--server",
      value: "https://<your cache server>",
    }),
  };
}

async function openServer(
  server: string,
  runner: RunnerConfig,
  request: SetupRequest,
  context: AccessContext,
): Promise<Access | NoAccess> {
  const { env, stopwatch } = context;
  const view = findView(request, env);
  if (request.token !== undefined) return openWithToken(server, view, request, context);
  const found = findIdentity(env, runner);
  await using client = createExchangeClient({ server, signal: context.signal });
  const audience = request.audience ?? runner.audience;
  const guess = audience ?? server.replace(/\/$/, "");
  const early = askEarly(found, guess, context.signal);
  let discovery: Discovery;
  try {
    discovery = await stopwatch.time("discoverMs", () => client.discover());
  } catch (error) {
    // An atticd, or an old server of ours: what it has for everybody can be read.
    if (!isCacheError(error, "UNSUPPORTED")) throw error;
    return openPublic(server, view, "The server knows no identities", found, context);
  }
  const publicView = view ?? discovery.defaultView;
  if (found.kind === "none") {
    const lines = identityLines(found.forge, discovery.audience ?? server);
    const opened = await openPublic(server, publicView, "The job has no identity", found, context);
    return { ...opened, hint: lines };
  }
  if (discovery.audience === undefined) {
    const why = discovery.notices[0] ?? "The server exchanges no identities";
    return openPublic(server, publicView, why, found, context);
  }
  const wish = { view, mode: wantsWrite(request) ? undefined : ("read" as const) };
  const chosen = chooseAudience(server, discovery, audience);
  let exchanged: ExchangedToken;
  try {
    exchanged = await stopwatch.time("exchangeMs", async () => {
      const identity = await (chosen === guess && early !== undefined
        ? early
        : obtainIdentityToken(found.source, chosen, context.signal));
      return client.exchange(identity, wish);
    });
  } catch (error) {
    if (!isCacheError(error, "FORBIDDEN")) throw error;
    const opened = await openPublic(server, publicView, whatServerSaid(error), found, context);
    return opened.kind === "open" || error.hint === undefined
      ? opened
      : { ...opened, hint: [error.hint] };
  }
  return fromExchange(server, exchanged, { kind: "exchange", audience: chosen, ...wish });
}

/**
 * The forge takes as long for a token as the server for what it is for, and that is the server's own address nearly
 * always.
 */
function askEarly(
  found: FoundIdentity,
  audience: string,
  signal: AbortSignal,
): Promise<string> | undefined {
  if (found.kind === "none") return undefined;
  const asked = obtainIdentityToken(found.source, audience, signal);
  // Who needs it is told of a failure.
  asked.catch(() => {});
  return asked;
}

/** A refusal without the request that it answers. */
function whatServerSaid(error: CacheError): string {
  const said = error instanceof ResponseError ? error.details["message"] : undefined;
  return typeof said === "string" ? said : error.message;
}

function fromExchange(
  server: string,
  { token, grant, nix, bazel, notices }: ExchangedToken,
  credentials: CredentialSettings,
): Access | NoAccess {
  const [view] = grant.read;
  const [substituterUrl] = nix.substituters;
  if (view === undefined || substituterUrl === undefined) {
    return { kind: "none", status: "disabled", reason: grant.reason };
  }
  return {
    kind: "open",
    server,
    view,
    write: grant.write,
    tenant: grant.tenant,
    trust: grant.trust,
    reason: grant.reason,
    publicKeys: nix.publicKeys,
    storeDir: nix.storeDir,
    upstream: "flywheel",
    substituterUrl,
    api: new URL("_flywheel/v1/", server).href,
    bazelUrl: bazel?.grpc,
    token,
    credentials,
    notices,
  };
}

async function openWithToken(
  server: string,
  view: string | undefined,
  request: SetupRequest,
  { env, signal, stopwatch }: AccessContext,
): Promise<Access | NoAccess> {
  if (view === undefined) {
    return {
      kind: "none",
      status: "disabled",
      reason: "A token was given, but no view to use it for.",
      hint: valueLines(env, { input: "cache", option: "--view", value: "<the view's name>" }),
    };
  }
  const { token } = request;
  const config = await stopwatch.time("discoverMs", () =>
    readCacheConfig({ server, view, token, signal }),
  );
  const canWrite = wantsWrite(request) && mayPush(token, view);
  return {
    ...describeView(server, view, config),
    write: canWrite ? view : undefined,
    reason: "The job was given a token.",
    token,
    credentials: { kind: "fixed" },
  };
}

async function openPublic(
  server: string,
  view: string | undefined,
  why: string,
  found: FoundIdentity,
  { signal, stopwatch }: AccessContext,
): Promise<Access | NoAccess> {
  const sentence = why.replace(/\.$/, "");
  const hint = found.kind === "none" ? [found.hint] : undefined;
  const none = (more: string): NoAccess => {
    return { kind: "none", status: "disabled", reason: `${sentence}${more}.`, hint };
  };
  if (view === undefined) return none(", and there is no public view");
  try {
    const config = await stopwatch.time("exchangeMs", () =>
      readCacheConfig({ server, view, signal }),
    );
    return {
      ...describeView(server, view, config),
      reason: `${sentence}: it reads the public view ${view}.`,
      hint,
      credentials: { kind: "anonymous" },
    };
  } catch (error) {
    const isPrivate = ["UNAUTHENTICATED", "FORBIDDEN", "NOT_FOUND"].some(
      (code) => error instanceof CacheError && error.code === code,
    );
    if (!isPrivate) throw error;
    return none(`, and the view ${view} is not public`);
  }
}

/** A view as a job reads it. */
export function describeView(
  server: string,
  view: string,
  config: CacheConfig,
): Omit<Access, "reason" | "credentials"> {
  const { publicKey, flywheel, substituterEndpoint } = config;
  return {
    kind: "open",
    server,
    view,
    publicKeys: flywheel?.publicKeys ?? (publicKey === undefined ? [] : [publicKey]),
    storeDir: config.storeDir,
    upstream: flywheel === undefined ? "attic" : "flywheel",
    substituterUrl: substituterEndpoint ?? new URL(view, server).href,
    api: flywheel?.api,
    bazelUrl: flywheel?.bazel?.grpc,
    notices: [],
  };
}
