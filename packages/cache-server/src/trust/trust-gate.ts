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
  /** The view from memory, when it is known for the caller's version of the index and the caller may. */
  recallView(caller: Caller, name: string, permission: CachePermission): ViewRecord | undefined;
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
  readonly index: Pick<CacheIndex, "findView" | "isTokenRevoked">;
  readonly verifier: TokenVerifier;
  readonly now: () => number;
  /** Without it nothing is remembered. */
  readonly changes?: IndexChanges | undefined;
}

/** Callers and views that are remembered; beyond that the oldest is forgotten. */
const MAX_REMEMBERED = 1000;

export function createTrustGate({ index, verifier, now, changes }: TrustGateOptions): TrustGate {
  const callers = new Map<string, Caller>();
  const views = new Map<string, { readonly version: number; readonly view: ViewRecord }>();
  const permissionsOf = new WeakMap<Caller, Map<string, ReadonlySet<CachePermission>>>();
  let anonymous: Caller = { claims: undefined, problem: NO_TOKEN, indexVersion: undefined };

  const anonymousAt = (indexVersion: number | undefined): Caller => {
    if (anonymous.indexVersion !== indexVersion) anonymous = { ...anonymous, indexVersion };
    return anonymous;
  };

  const rememberedPermissions = (caller: Caller, name: string): ReadonlySet<CachePermission> => {
    let byName = permissionsOf.get(caller);
    if (byName === undefined) permissionsOf.set(caller, (byName = new Map()));
    let permissions = byName.get(name);
    if (permissions === undefined) {
      permissions = caller.claims === undefined ? new Set() : permissionsFor(caller.claims, name);
      byName.set(name, permissions);
    }
    return permissions;
  };

  const requirePermission = (
    { claims, problem }: Caller,
    name: string,
    permission: CachePermission,
  ): void => {
    const permissions = claims === undefined ? undefined : permissionsFor(claims, name);
    if (permissions?.has(permission) === true) return;
    if (permissions === undefined || permissions.size === 0) {
      throw new CacheError("UNAUTHENTICATED", `${problem}: no permission on cache ${name}`, {
        hint: HINT,
      });
    }
    throw new CacheError(
      "FORBIDDEN",
      `The token gives no ${permission} permission on cache ${name}`,
      {
        hint: HINT,
      },
    );
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

    async requireView(caller, name, permission) {
      const view = await index.findView(name);
      if (view !== undefined && caller.indexVersion !== undefined) {
        rememberIn(views, name, { version: caller.indexVersion, view });
      }
      if (permission === "pull" && view?.isPublic === true) return view;
      if (view !== undefined) {
        requirePermission(caller, name, permission);
        return view;
      }
      const permissions = caller.claims && permissionsFor(caller.claims, name);
      if (permissions === undefined || permissions.size === 0) {
        requirePermission(caller, name, permission);
      }
      throw new AtticError("NoSuchCache", "NOT_FOUND", `There is no cache ${name}`, {
        hint: "`flywheel view list` shows those there are.",
      });
    },

    recallView(caller, name, permission) {
      const known = views.get(name);
      if (known === undefined || known.version !== caller.indexVersion) return undefined;
      const { view } = known;
      const isPublicPull = permission === "pull" && view.isPublic;
      return isPublicPull || rememberedPermissions(caller, name).has(permission) ? view : undefined;
    },

    requirePermission,

    requireAdmin({ claims, problem }) {
      if (claims?.isAdmin === true) return;
      if (claims === undefined) {
        throw new CacheError("UNAUTHENTICATED", `${problem}: this needs an administrator's token`, {
          hint: HINT,
        });
      }
      throw new CacheError("FORBIDDEN", "This needs an administrator's token", { hint: HINT });
    },

    maySee({ claims }, view) {
      return view.isPublic || (claims !== undefined && permissionsFor(claims, view.name).size > 0);
    },
  };
}

function rememberIn<Value>(known: Map<string, Value>, key: string, value: Value): void {
  known.delete(key);
  known.set(key, value);
  if (known.size <= MAX_REMEMBERED) return;
  const oldest = known.keys().next();
  if (oldest.done !== true) known.delete(oldest.value);
}
