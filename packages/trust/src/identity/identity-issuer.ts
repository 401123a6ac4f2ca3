import type { ForgeKind } from "./principal.ts";

/** What an issuer may sign with. Only algorithms whose verifying key is public. */
export const IDENTITY_ALGORITHMS = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
] as const;

/** One of {@link IDENTITY_ALGORITHMS}. */
export type IdentityAlgorithm = (typeof IDENTITY_ALGORITHMS)[number];

/** What an issuer may sign with when nothing else is said: what the forges and Kubernetes use. */
export const DEFAULT_IDENTITY_ALGORITHMS: readonly IdentityAlgorithm[] = ["RS256", "ES256"];

/** Which claims of an `oidc` issuer hold what. Each is the name of one claim at the top of the token. */
export interface ClaimMapping {
  /** Required: an id that is never given to another repository. */
  readonly repositoryId: string;
  readonly repositoryName?: string | undefined;
  readonly ownerId?: string | undefined;
  readonly ownerName?: string | undefined;
  /** A full ref, such as `refs/heads/main`. */
  readonly ref?: string | undefined;
  /** A branch by its short name. */
  readonly branch?: string | undefined;
  /** A tag by its short name. */
  readonly tag?: string | undefined;
  readonly refProtected?: string | undefined;
  readonly event?: string | undefined;
  readonly pullRequest?: string | undefined;
  /** True when a fork's code runs. */
  readonly fork?: string | undefined;
  readonly environment?: string | undefined;
  readonly run?: string | undefined;
  readonly attempt?: string | undefined;
  readonly commit?: string | undefined;
  readonly workflow?: string | undefined;
}

/** An issuer whose identity tokens count. */
export interface IdentityIssuer {
  readonly kind: ForgeKind;
  /** Compared with the token's `iss` character by character. */
  readonly issuer: string;
  /** For whom tokens must be meant; a token that is meant for anybody else as well is refused. */
  readonly audiences: readonly string[];
  /** Default {@link DEFAULT_IDENTITY_ALGORITHMS}. */
  readonly algorithms?: readonly IdentityAlgorithm[] | undefined;
  /** For the kind `oidc`, which means nothing without it. */
  readonly claims?: ClaimMapping | undefined;
  /** For the kind `oidc`: the operator vouches that this issuer gives no token to a fork's code. */
  readonly neverForks?: boolean | undefined;
  /** From `iat` to `exp`, in seconds; a token made for longer is refused. Default a day. */
  readonly maxLifetimeSeconds?: number | undefined;
}
