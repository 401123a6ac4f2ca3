import { CacheError } from "@glorious/core";
import * as v from "valibot";

import { isCachePattern, matchesCachePattern } from "./cache-pattern.ts";
import {
  CACHE_PERMISSIONS,
  type CachePermission,
  formatPermissions,
  PERMISSION_CODES,
} from "./cache-permission.ts";
import { TOKEN_GRANT_SCHEMA, type TokenGrant } from "./token-grant.ts";

/** The claim in which Attic's tokens carry their permissions. */
export const ATTIC_NAMESPACE = "https://jwt.attic.rs/v1";

/** The claim that holds what only our servers know: administrators and grants. Attic ignores it. */
export const ADMIN_NAMESPACE = "https://gloriousflywheel.dev/v1";

/** What a token says, times in milliseconds since the epoch. */
export interface TokenClaims {
  /** Who the token was made for; free text. */
  readonly subject?: string | undefined;
  /** What the token is revoked by. */
  readonly jti?: string | undefined;
  readonly issuer?: string | undefined;
  /** For whom the token is meant; empty or absent means anybody. */
  readonly audiences?: readonly string[] | undefined;
  /** Without it the token never expires. */
  readonly expiresAtMs?: number | undefined;
  readonly notBeforeMs?: number | undefined;
  /** Cache name patterns with what they grant, in the order of the token: the first match decides. */
  readonly caches: ReadonlyArray<
    readonly [pattern: string, permissions: ReadonlySet<CachePermission>]
  >;
  /** May manage the server itself, above all make and revoke tokens. Grants nothing on a cache. */
  readonly isAdmin: boolean;
  /** For which job it was exchanged; the permissions above say the same to an Attic server. */
  readonly grant?: TokenGrant | undefined;
}

const NONE: ReadonlySet<CachePermission> = new Set();

/**
 * What `claims` allow on one cache: what its exact name says, else what the *first* matching pattern
 * says. Grants are never added up, so a narrow pattern before a wide one can also take away.
 */
export function permissionsFor(
  claims: TokenClaims,
  cacheName: string,
): ReadonlySet<CachePermission> {
  const grant =
    claims.caches.find(([pattern]) => pattern === cacheName) ??
    claims.caches.find(([pattern]) => matchesCachePattern(pattern, cacheName));
  return grant?.[1] ?? NONE;
}

// `true` instead of 1 invalidates a token in Attic; one that only we accept would be a trap.
const flag = v.optional(v.picklist([0, 1], "must be the number 0 or 1"));
const text = v.nullish(v.string());
// Beyond the maximum a Date cannot tell the time any more.
const numericDate = v.nullish(v.pipe(v.number(), v.minValue(0), v.maxValue(8.64e12)));

const FLAGS = v.object(
  Object.fromEntries(CACHE_PERMISSIONS.map((name) => [PERMISSION_CODES[name], flag])),
);

const PAYLOAD = v.object({
  sub: text,
  jti: text,
  iss: text,
  aud: v.nullish(v.union([v.string(), v.array(v.string())])),
  exp: numericDate,
  nbf: numericDate,
  [ATTIC_NAMESPACE]: v.object(
    // Not v.record: it drops names such as `constructor`, which a cache may have.
    { caches: v.custom<object>((value) => typeof value === "object" && value !== null) },
    "is missing or no object",
  ),
  [ADMIN_NAMESPACE]: v.optional(v.object({ admin: flag, grant: v.optional(TOKEN_GRANT_SCHEMA) })),
});

/**
 * Reads the payload of a token, as Attic reads it: unknown claims and permissions are ignored, one
 * malformed value or pattern makes the whole token worthless.
 *
 * @throws {CacheError} `INVALID` naming the claim that is missing or malformed.
 */
export function parseTokenClaims(payload: unknown): TokenClaims {
  const claims = parse(PAYLOAD, payload, "");
  const { aud, exp, nbf } = claims;
  const ours = claims[ADMIN_NAMESPACE];
  return {
    subject: claims.sub ?? undefined,
    jti: claims.jti ?? undefined,
    issuer: claims.iss ?? undefined,
    audiences: typeof aud === "string" ? [aud] : (aud ?? undefined),
    expiresAtMs: typeof exp === "number" ? exp * 1000 : undefined,
    notBeforeMs: typeof nbf === "number" ? nbf * 1000 : undefined,
    // Keys that look like integers come first in JavaScript; they hold no `*`, so the order of
    // patterns is still that of the token.
    caches: Object.entries(claims[ATTIC_NAMESPACE].caches).map(([pattern, flags]) => [
      requirePattern(pattern),
      parsePermissions(pattern, flags),
    ]),
    isAdmin: ours?.admin === 1,
    ...(ours?.grant === undefined ? {} : { grant: ours.grant }),
  };
}

function parsePermissions(pattern: string, value: unknown): ReadonlySet<CachePermission> {
  const flags = parse(FLAGS, value, `${ATTIC_NAMESPACE}.caches.${pattern}`);
  return new Set(CACHE_PERMISSIONS.filter((name) => flags[PERMISSION_CODES[name]] === 1));
}

function parse<T extends v.GenericSchema>(
  schema: T,
  value: unknown,
  where: string,
): v.InferOutput<T> {
  const parsed = v.safeParse(schema, value, { abortEarly: true });
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  const path = [where, v.getDotPath(issue) ?? ""].filter((part) => part !== "").join(".");
  throw new CacheError(
    "INVALID",
    `The token's claims are malformed at ${path === "" ? "their root" : path}: ${issue.message}`,
  );
}

function requirePattern(pattern: string): string {
  if (isCachePattern(pattern)) return pattern;
  throw new CacheError(
    "INVALID",
    `${JSON.stringify(pattern.slice(0, 100))} is no cache name pattern`,
    { hint: "Use letters, digits, - _ + and * as a wildcard, at most 50 characters." },
  );
}

/**
 * The payload that {@link parseTokenClaims} reads back; times are cut to whole seconds.
 *
 * @throws {CacheError} `INVALID` when a pattern is malformed or stands there twice.
 */
export function formatTokenClaims(claims: TokenClaims): Record<string, unknown> {
  const caches = new Map<string, Record<string, 1>>();
  for (const [pattern, permissions] of claims.caches) {
    if (caches.has(requirePattern(pattern))) {
      throw new CacheError("INVALID", `The pattern ${pattern} is given twice`);
    }
    caches.set(pattern, formatPermissions(permissions));
  }
  const payload: Record<string, unknown> = {
    sub: claims.subject,
    jti: claims.jti,
    iss: claims.issuer,
    aud: claims.audiences?.length === 1 ? claims.audiences[0] : claims.audiences,
    exp: toSeconds(claims.expiresAtMs),
    nbf: toSeconds(claims.notBeforeMs),
    [ATTIC_NAMESPACE]: { caches: Object.fromEntries(caches) },
    [ADMIN_NAMESPACE]:
      claims.isAdmin || claims.grant !== undefined
        ? { admin: claims.isAdmin ? 1 : undefined, grant: claims.grant }
        : undefined,
  };
  return Object.fromEntries(Object.entries(payload).filter(([, value]) => value !== undefined));
}

function toSeconds(timeMs: number | undefined): number | undefined {
  return timeMs === undefined ? undefined : Math.floor(timeMs / 1000);
}
