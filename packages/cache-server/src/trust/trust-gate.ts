import { CacheError } from "@glorious/core";
import {
  type CachePermission,
  type TokenClaims,
  type TokenVerifier,
  parseAuthorization,
  permissionsFor,
} from "@glorious/trust";

import { AtticError } from "../http/attic-error.ts";
import type { CacheIndex, ViewRecord } from "../index/cache-index.ts";
import type { IndexChanges } from "../read-cache/index-changes.ts";
import type { Overlays } from "./overlays.ts";
import { toPrincipalFacts } from "./principal-facts.ts";
import { baseOfOverlay, createReadChain, type ReadChain } from "./read-chain.ts";
import type { ViewPolicy } from "./view-policy.ts";

/** Who asks. Without valid claims it is anybody, and `problem` says why. */
export interface Caller {
  readonly claims: TokenClaims | undefined;
  /** One sentence for the person who looks into a refusal; depends on the token only, never on what exists. */
  readonly problem: string;
  /** The version of the index that was asked who this is; `undefined` when nobody counts versions. */
  readonly indexVersion: number | undefined;
}

/** Decides who may do what. Every route asks it before it looks at anything a view holds. */
export interface TrustGate {
  /** Never refuses: a bad token makes an anonymous caller, as in Attic. */
  identify(authorization: string | undefined): Promise<Caller>;
  /**
   * The same from memory: the caller that `identify` found for this very header, when the index has not changed
   * since and the token has not expired.
   */
  recall(authorization: string | undefined): Caller | undefined;
  /**
   * The view, when the caller may do this to it.
   *
   * Without any permission on the name the answer is the same whether the view exists or not.
   *
   * @throws {CacheError} `UNAUTHENTICATED`, `FORBIDDEN`, or `NOT_FOUND` for callers that may know it is absent.
   */
  requireView(caller: Caller, name: string, permission: CachePermission): Promise<ViewRecord>;
  /**
   * The views that a read of this one falls through, when the caller may pull it: of those behind it the ones that the
   * caller may pull as well. An overlay need not exist, its base must.
   *
   * @throws {CacheError} as `requireView`.
   */
  requireChain(caller: Caller, name: string): Promise<ReadChain>;
  /** The same from memory: what `requireChain` found for this caller. */
  recallChain(caller: Caller, name: string): ReadChain | undefined;
  /**
   * The ids of the views whose paths count as present for a push into this one: itself, and for an overlay all that
   * the caller reads through it. Possession is never taken from there: a NAR counts in its own view alone.
   *
   * @throws {CacheError} as `requireView` for `push`.
   */
  requirePresence(caller: Caller, name: string): Promise<readonly number[]>;
  /**
   * The view to write to, when the caller may push into it; an overlay that a grant says comes into being here.
   *
   * @throws {CacheError} as `requireView` for `push`.
   */
  requireWritableView(caller: Caller, name: string): Promise<ViewRecord>;
  /**
   * The same for what brings bytes.
   *
   * @throws {CacheError} `STORAGE_FULL`, too, when an overlay's quota is used up.
   */
  requireUploadView(caller: Caller, name: string): Promise<ViewRecord>;
  /** Whether the caller has a permission on a name. */
  may(caller: Caller, name: string, permission: CachePermission): boolean;
  /** As `requireView` for a name that need not exist, such as that of a view to create. */
  requirePermission(caller: Caller, name: string, permission: CachePermission): void;
  /** @throws {CacheError} `UNAUTHENTICATED` or `FORBIDDEN` for callers without the administrator claim. */
  requireAdmin(caller: Caller): void;
  /** Whether the caller may know that this view exists. */
  maySee(caller: Caller, view: ViewRecord): boolean;
}

const NO_TOKEN = "No token was sent";
const HINT = "Send a valid token; `flywheel token inspect` shows what one allows and until when.";

export interface TrustGateOptions {
  readonly index: Pick<
    CacheIndex,
    "findView" | "isTokenRevoked" | "isRevoked" | "upstreamsOfViews"
  >;
  readonly verifier: TokenVerifier;
  readonly now: () => number;
  /** Without it nothing is remembered. */
  readonly changes?: IndexChanges | undefined;
  readonly viewPolicy: ViewPolicy;
  readonly overlays: Overlays;
}

/** Callers that are remembered; beyond that the oldest is forgotten. */
const MAX_REMEMBERED = 1000;
const MAX_CHAINS_PER_CALLER = 100;

interface RememberedChain {
  readonly policyVersion: number;
  readonly chain: ReadChain;
}

export function createTrustGate(options: TrustGateOptions): TrustGate {
  const { index, verifier, now, changes, viewPolicy, overlays } = options;
  const callers = new Map<string, Caller>();
  // A caller's rights and the views change only with the index, and then it is another caller.
  const chainsOf = new WeakMap<Caller, Map<string, RememberedChain>>();
  let anonymous: Caller = { claims: undefined, problem: NO_TOKEN, indexVersion: undefined };

  const anonymousAt = (indexVersion: number | undefined): Caller => {
    if (anonymous.indexVersion !== indexVersion) anonymous = { ...anonymous, indexVersion };
    return anonymous;
  };

  const requirePermission = (
    { claims, problem }: Caller,
    name: string,
    permission: CachePermission,
  ): void => {
    const permissions = claims === undefined ? undefined : grantedPermissions(claims, name);
    if (permissions?.has(permission) === true) return;
    if (claims === undefined || permissions === undefined) {
      throw new CacheError("UNAUTHENTICATED", `${problem}: no permission on cache ${name}`, {
        hint: HINT,
      });
    }
    const hint = whoGrants(claims, permission);
    throw permissions.size === 0
      ? new CacheError("UNAUTHENTICATED", `${problem}, but gives nothing on cache ${name}`, {
          hint,
        })
      : new CacheError(
          "FORBIDDEN",
          `The token gives no ${permission} permission on cache ${name}`,
          { hint },
        );
  };

  const may = ({ claims }: Caller, name: string, permission: CachePermission): boolean =>
    claims !== undefined && grantedPermissions(claims, name).has(permission);

  const requireView: TrustGate["requireView"] = async (caller, name, permission) => {
    const view = await index.findView(name);
    if (permission === "pull" && view?.isPublic === true) return view;
    if (view !== undefined) {
      requirePermission(caller, name, permission);
      return view;
    }
    const permissions = caller.claims && grantedPermissions(caller.claims, name);
    if (permissions === undefined || permissions.size === 0) {
      requirePermission(caller, name, permission);
    }
    throw noSuchView(name);
  };

  /** The view and those that the policy puts behind it. */
  const withShared = async (caller: Caller, view: ViewRecord): Promise<ViewRecord[]> => {
    const views = [view];
    for (const name of viewPolicy.settingsOf(view.name).reads) {
      // Nothing reads an overlay but by its own name.
      if (name === view.name || baseOfOverlay(name) !== undefined) continue;
      const shared = await index.findView(name);
      if (shared === undefined) continue;
      if (shared.isPublic || may(caller, name, "pull")) views.push(shared);
    }
    return views;
  };

  const resolveChain = async (caller: Caller, name: string): Promise<ReadChain> => {
    const { view, views } = await resolveViews(caller, name);
    const upstreams = await index.upstreamsOfViews(views.map(({ id }) => id));
    return createReadChain(view, views, upstreams);
  };

  const resolveViews = async (
    caller: Caller,
    name: string,
  ): Promise<Pick<ReadChain, "view" | "views">> => {
    const baseName = baseOfOverlay(name);
    if (baseName === undefined) {
      const view = await requireView(caller, name, "pull");
      return { view, views: await withShared(caller, view) };
    }
    requirePermission(caller, name, "pull");
    const overlay = await index.findView(name);
    const base = await index.findView(baseName);
    const mayReadBase = base !== undefined && (base.isPublic || may(caller, baseName, "pull"));
    const behind = mayReadBase ? await withShared(caller, base) : [];
    if (overlay !== undefined) return { view: overlay, views: [overlay, ...behind] };
    if (!mayReadBase) throw noSuchView(name);
    return { view: { ...base, id: undefined, name, isPublic: false }, views: behind };
  };

  const requireWritableView: TrustGate["requireWritableView"] = async (caller, name) => {
    if (baseOfOverlay(name) === undefined) return requireView(caller, name, "push");
    requirePermission(caller, name, "push");
    return overlays.openForWriting(name, caller.claims?.grant);
  };

  const requireChain: TrustGate["requireChain"] = async (caller, name) => {
    const policyVersion = viewPolicy.version;
    const chain = await resolveChain(caller, name);
    if (caller.indexVersion === undefined) return chain;
    let known = chainsOf.get(caller);
    if (known === undefined) chainsOf.set(caller, (known = new Map()));
    if (known.size >= MAX_CHAINS_PER_CALLER) known.clear();
    known.set(name, { policyVersion, chain });
    return chain;
  };

  return {
    async identify(authorization) {
      // Before anything is looked up: what changes meanwhile then has another version.
      const indexVersion = changes?.version();
      if (authorization === undefined) return anonymousAt(indexVersion);
      const refuse = (problem: string): Caller => ({ claims: undefined, problem, indexVersion });
      const credentials = parseAuthorization(authorization);
      if (credentials === undefined) {
        return refuse("The Authorization header is neither Bearer nor Basic");
      }
      const verdict = await verifier.verify(credentials.token, now());
      if (verdict.kind === "invalid") return refuse(verdict.message);
      const { claims } = verdict;
      if (claims.jti !== undefined && (await index.isTokenRevoked(claims.jti))) {
        return refuse("The token has been revoked");
      }
      const { principal, run, jti } = toPrincipalFacts(claims);
      if (await index.isRevoked({ principal, run, jti })) {
        return refuse("What the token's holder wrote was revoked, and so was the token");
      }
      const caller: Caller = { claims, problem: "The token is valid", indexVersion };
      if (indexVersion !== undefined) rememberIn(callers, authorization, caller);
      return caller;
    },

    recall(authorization) {
      if (changes === undefined) return undefined;
      const indexVersion = changes.version();
      if (authorization === undefined) return anonymousAt(indexVersion);
      const caller = callers.get(authorization);
      if (caller?.claims === undefined || caller.indexVersion !== indexVersion) return undefined;
      const { expiresAtMs = Infinity, notBeforeMs = -Infinity } = caller.claims;
      const nowMs = now();
      return nowMs >= notBeforeMs && nowMs < expiresAtMs ? caller : undefined;
    },

    requireView,

    requireChain,

    recallChain(caller, name) {
      const known = chainsOf.get(caller)?.get(name);
      return known?.policyVersion === viewPolicy.version ? known.chain : undefined;
    },

    requireWritableView,

    async requireUploadView(caller, name) {
      const view = await requireWritableView(caller, name);
      await overlays.requireRoom(view);
      return view;
    },

    async requirePresence(caller, name) {
      if (baseOfOverlay(name) === undefined) {
        return [(await requireView(caller, name, "push")).id];
      }
      requirePermission(caller, name, "push");
      if (may(caller, name, "pull")) return (await requireChain(caller, name)).ids;
      const view = await index.findView(name);
      return view === undefined ? [] : [view.id];
    },

    may,
    requirePermission,

    requireAdmin({ claims, problem }) {
      if (claims?.isAdmin === true) return;
      if (claims === undefined) {
        throw new CacheError("UNAUTHENTICATED", `${problem}: this needs an administrator's token`, {
          hint: HINT,
        });
      }
      throw new CacheError("FORBIDDEN", "This needs an administrator's token", {
        hint: "The one that came is valid, and no administrator's. Send the one that the server's data folder keeps as admin.token, or one made by `flywheel token create --admin`.",
      });
    },

    maySee({ claims }, view) {
      return (
        view.isPublic || (claims !== undefined && grantedPermissions(claims, view.name).size > 0)
      );
    },
  };
}

/** What to do about a permission that a valid token lacks; the message before it names the view. */
function whoGrants({ grant }: TokenClaims, permission: CachePermission): string {
  if (grant !== undefined) {
    return `The trust policy gives a job its permissions: whoever administers the server can let it ${permission} there.`;
  }
  const option = permission.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  return `Ask an administrator of the server for a token with it: \`flywheel token create --${option} VIEW\`.`;
}

const NOTHING: ReadonlySet<CachePermission> = new Set();

/**
 * What a token allows on a name. One that was exchanged for a job's identity allows what its grant says and no more,
 * whatever its patterns are: it writes to one view, and nothing trusted sees an overlay.
 */
function grantedPermissions(claims: TokenClaims, name: string): ReadonlySet<CachePermission> {
  const permissions = permissionsFor(claims, name);
  const { grant } = claims;
  if (grant === undefined) return permissions;
  if (grant.trust === "trusted" && baseOfOverlay(name) !== undefined) return NOTHING;
  if (grant.write === name || !permissions.has("push")) return permissions;
  return new Set([...permissions].filter((permission) => permission === "pull"));
}

function noSuchView(name: string): AtticError {
  return new AtticError("NoSuchCache", "NOT_FOUND", `There is no cache ${name}`, {
    hint: "`flywheel view list` shows those there are.",
  });
}

function rememberIn<Value>(known: Map<string, Value>, key: string, value: Value): void {
  known.delete(key);
  known.set(key, value);
  if (known.size <= MAX_REMEMBERED) return;
  const oldest = known.keys().next();
  if (oldest.done !== true) known.delete(oldest.value);
}
