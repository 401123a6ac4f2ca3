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

/** Who asks. Without valid claims it is anybody, and `problem` says why. */
export interface Caller {
  readonly claims: TokenClaims | undefined;
  /** One sentence for the person who looks into a refusal; depends on the token only, never on what exists. */
  readonly problem: string;
}

/** Decides who may do what. Every route asks it before it looks at anything a view holds. */
export interface TrustGate {
  /** Never refuses: a bad token makes an anonymous caller, as in Attic. */
  identify(authorization: string | undefined): Promise<Caller>;
  /**
   * The view, when the caller may do this to it.
   *
   * Without any permission on the name the answer is the same whether the view exists or not.
   *
   * @throws {CacheError} `UNAUTHENTICATED`, `FORBIDDEN`, or `NOT_FOUND` for callers that may know it is absent.
   */
  requireView(caller: Caller, name: string, permission: CachePermission): Promise<ViewRecord>;
  /** The same for a name that need not exist, such as that of a view to create. */
  requirePermission(caller: Caller, name: string, permission: CachePermission): void;
  /** @throws {CacheError} `UNAUTHENTICATED` or `FORBIDDEN` for callers without the administrator claim. */
  requireAdmin(caller: Caller): void;
  /** Whether the caller may know that this view exists. */
  maySee(caller: Caller, view: ViewRecord): boolean;
}

const ANONYMOUS: Caller = { claims: undefined, problem: "No token was sent" };
const HINT = "Send a valid token; `flywheel token inspect` shows what one allows and until when.";

export interface TrustGateOptions {
  readonly index: Pick<CacheIndex, "findView" | "isTokenRevoked">;
  readonly verifier: TokenVerifier;
  readonly now: () => number;
}

export function createTrustGate({ index, verifier, now }: TrustGateOptions): TrustGate {
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
      if (authorization === undefined) return ANONYMOUS;
      const credentials = parseAuthorization(authorization);
      if (credentials === undefined) {
        return {
          claims: undefined,
          problem: "The Authorization header is neither Bearer nor Basic",
        };
      }
      const verdict = await verifier.verify(credentials.token, now());
      if (verdict.kind === "invalid") return { claims: undefined, problem: verdict.message };
      const { jti } = verdict.claims;
      if (jti !== undefined && (await index.isTokenRevoked(jti))) {
        return { claims: undefined, problem: "The token has been revoked" };
      }
      return { claims: verdict.claims, problem: "The token is valid" };
    },

    async requireView(caller, name, permission) {
      const view = await index.findView(name);
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
