import type { ClaimMapping, IdentityAlgorithm } from "../identity/identity-issuer.ts";
import type { ForgeKind } from "../identity/principal.ts";

/**
 * The policy document, read: of the right shape, sizes in bytes and times in seconds. Its rules may
 * still contradict each other. `docs/reference/policy.md` says what each field means.
 */
export interface PolicyDocument {
  readonly version: 1;
  readonly issuers: Readonly<Record<string, IssuerEntry>>;
  readonly defaultTenant?: TenantEntry | undefined;
  readonly tenants?: Readonly<Record<string, TenantEntry>> | undefined;
  readonly sharedViews?: Readonly<Record<string, SharedViewEntry>> | undefined;
}

export interface IssuerEntry {
  readonly kind: ForgeKind;
  readonly issuer: string;
  readonly jwksUri?: string | undefined;
  readonly jwksFile?: string | undefined;
  readonly algorithms?: readonly IdentityAlgorithm[] | undefined;
  readonly claims?: ClaimMapping | undefined;
  readonly neverForks?: boolean | undefined;
  readonly tokenLifetime?: number | undefined;
  readonly maxIdentityLifetime?: number | undefined;
}

export interface TenantEntry {
  readonly parent?: string | undefined;
  readonly quotas?:
    | { readonly trusted?: number | undefined; readonly overlay?: number | undefined }
    | undefined;
  readonly views: Readonly<Record<string, ViewEntry>>;
  readonly scopes?: readonly ScopeEntry[] | undefined;
}

/** What of a view may go into the commons: what enough tenants built alike, or also what verifies itself. */
export type Contribution = "agreed" | "content-addressed";

export interface ViewEntry {
  readonly default?: boolean | undefined;
  readonly public?: boolean | undefined;
  readonly reads?: readonly string[] | undefined;
  readonly contributes?: Contribution | undefined;
  readonly quota?: number | undefined;
  readonly overlays?:
    | { readonly quota?: number | undefined; readonly retention?: number | undefined }
    | undefined;
}

/** By id, or where the token carries none by a name that the operator has confirmed. */
export interface NamedTargetEntry {
  readonly id?: string | undefined;
  readonly name?: string | undefined;
  readonly confirmed?: string | undefined;
  readonly reconfirmAfter?: number | undefined;
}

export interface IdTargetEntry {
  readonly id: string;
  readonly name?: string | undefined;
}

/** Whom a rule is about: exactly one field beside the issuer. */
export interface TargetEntry {
  readonly issuer: string;
  readonly repository?: NamedTargetEntry | undefined;
  readonly repositories?: readonly IdTargetEntry[] | undefined;
  readonly organization?: NamedTargetEntry | undefined;
  readonly group?: IdTargetEntry | undefined;
  readonly enterprise?: IdTargetEntry | undefined;
  readonly instance?: true | undefined;
  readonly serviceAccount?:
    | { readonly namespace: string; readonly name: string; readonly uid?: string | undefined }
    | undefined;
  readonly namespace?: { readonly name: string } | undefined;
}

export interface TrustedEntry {
  readonly refs?: readonly string[] | undefined;
  readonly protected?: boolean | undefined;
  readonly events?: readonly string[] | undefined;
  readonly environments?: readonly string[] | undefined;
}

export interface ScopeEntry extends TargetEntry {
  readonly view?: string | undefined;
  readonly trusted?: TrustedEntry | undefined;
  readonly untrusted?: "none" | "read" | undefined;
  readonly branchIsolation?: boolean | undefined;
  readonly adoptMergeQueue?: boolean | undefined;
}

export interface WriterEntry extends TargetEntry {
  readonly trusted: TrustedEntry;
}

export interface SharedViewEntry {
  readonly public?: boolean | undefined;
  readonly quota?: number | undefined;
  /** Either these or an agreement. */
  readonly writers?: readonly WriterEntry[] | undefined;
  readonly agreement?: { readonly tenants?: number | undefined } | undefined;
}
