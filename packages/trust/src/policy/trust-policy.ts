import type { IdentityIssuer } from "../identity/identity-issuer.ts";
import { formatViewName, parseViewName } from "../view-name.ts";
import type { Contribution } from "./policy-document.ts";

/** An issuer of a policy. Its audience is the server's own, and no part of the policy. */
export interface PolicyIssuer extends Omit<IdentityIssuer, "audiences"> {
  /** How the policy calls it. */
  readonly name: string;
  /** Where its keys are, when its discovery document shall not say. */
  readonly jwksUri: string | undefined;
  /** A file with its keys, for an issuer that the server cannot reach. */
  readonly jwksFile: string | undefined;
  /** How long a token lives that is given for one of this issuer's, in seconds. */
  readonly tokenLifetimeSeconds: number;
}

/** An operator made sure whose a name is; after a gap without any use somebody else may have registered it. */
export interface NameConfirmation {
  /** The day's begin. */
  readonly confirmedAtMs: number;
  /** How long it counts since that, or since the name was last seen. */
  readonly reconfirmAfterSeconds: number;
}

/** Whom a rule is about, from the narrowest to the widest. */
export type ScopeTarget =
  | { readonly kind: "repository"; readonly id: string }
  | ({ readonly kind: "repository-name"; readonly name: string } & NameConfirmation)
  | {
      readonly kind: "service-account";
      readonly namespace: string;
      readonly name: string;
      readonly uid: string | undefined;
    }
  | { readonly kind: "repositories"; readonly ids: readonly string[] }
  | { readonly kind: "organization"; readonly id: string }
  | ({ readonly kind: "organization-name"; readonly name: string } & NameConfirmation)
  | { readonly kind: "group"; readonly id: string }
  | { readonly kind: "namespace"; readonly namespace: string }
  | { readonly kind: "enterprise"; readonly id: string }
  | { readonly kind: "instance" };

/** Which runs of a scope are trusted: ref, event and environment must all fit. */
export interface TrustedRule {
  /** Full refs; `*` stands for any characters but a slash, `**` for any. */
  readonly refs: readonly string[];
  /** Any ref counts that the forge says is protected. */
  readonly isProtected: boolean;
  /** The forge's words; `undefined` means any, for issuers that know no events. */
  readonly events: readonly string[] | undefined;
  /** When there are any, the job must run in one of them. */
  readonly environments: readonly string[];
}

/** A rule: who gets what in which view. */
export interface PolicyScope {
  /** Where it stands in the document, such as `tenants.acme.scopes[0]`. */
  readonly rule: string;
  readonly tenant: string | undefined;
  /** The issuer's `iss`. */
  readonly issuer: string;
  readonly target: ScopeTarget;
  /** Full name. */
  readonly view: string;
  /** `undefined`: nothing is. */
  readonly trusted: TrustedRule | undefined;
  readonly untrusted: "none" | "read";
  /** Off: every branch of the repository counts like a trusted one. */
  readonly branchIsolation: boolean;
  readonly adoptMergeQueue: boolean;
  /** No other repository writes into overlays of this view. */
  readonly isOnlyRepository: boolean;
}

/** Who may write into a shared view. */
export type SharedWriter = Pick<PolicyScope, "rule" | "issuer" | "target"> & {
  readonly trusted: TrustedRule;
};

/** What holds for overlays over one view; `undefined` leaves it to the server's settings. */
export interface OverlaySettings {
  /** Of each overlay. */
  readonly quotaBytes: number | undefined;
  /** Since its last write. */
  readonly retentionSeconds: number | undefined;
}

/** A view as the policy describes it. */
export interface PolicyView {
  /** Full name. */
  readonly name: string;
  readonly tenant: string | undefined;
  readonly isPublic: boolean;
  /** `undefined`: no limit of its own. */
  readonly quotaBytes: number | undefined;
  /** Shared views that are read after it, by their full names. */
  readonly reads: readonly string[];
  readonly overlays: OverlaySettings;
  /** What of it may go into the commons; nothing for most. */
  readonly contributes: Contribution | undefined;
  /** Not empty for a shared view only. */
  readonly writers: readonly SharedWriter[];
  /** Of the commons, and no other view: how many tenants must have built a path alike. */
  readonly agreement: { readonly tenants: number } | undefined;
  readonly isShared: boolean;
}

/** A tenant's limits: over all its views and those of its children. */
export interface PolicyTenant {
  /** `undefined` for the default tenant. */
  readonly name: string | undefined;
  readonly parent: string | undefined;
  readonly trustedQuotaBytes: number | undefined;
  readonly overlayQuotaBytes: number | undefined;
}

/** A checked policy. Make one with `parseTrustPolicy`. */
export interface TrustPolicy {
  readonly issuers: readonly PolicyIssuer[];
  readonly tenants: readonly PolicyTenant[];
  readonly scopes: readonly PolicyScope[];
  /** By full name. */
  readonly views: ReadonlyMap<string, PolicyView>;
}

/** What a policy says of one view or overlay. */
export interface ViewSettings extends Omit<PolicyView, "writers"> {
  /** The base's full name, for an overlay. */
  readonly overlayOf: string | undefined;
  /** How long entries stay, for an overlay. */
  readonly retentionSeconds: number | undefined;
}

/** The issuers whose tokens may be exchanged. */
export function policyIssuers(policy: TrustPolicy): readonly PolicyIssuer[] {
  return policy.issuers;
}

/**
 * What the policy says of a view; an overlay has its base's settings with a quota and a retention of its
 * own, and is never public.
 *
 * @returns `undefined` when the policy does not name the view, or the name is none.
 */
export function viewSettingsOf(policy: TrustPolicy, fullName: string): ViewSettings | undefined {
  const view = policy.views.get(fullName);
  if (view !== undefined) return { ...view, overlayOf: undefined, retentionSeconds: undefined };
  const base = overlayBase(fullName);
  const settings = base === undefined ? undefined : policy.views.get(base);
  if (settings === undefined) return undefined;
  return { ...settings, ...settings.overlays, name: fullName, isPublic: false, overlayOf: base };
}

/** A tenant's quotas, then its parent's, which counts what all its children hold. */
export function quotasOf(policy: TrustPolicy, tenant: string | undefined): readonly PolicyTenant[] {
  const own = policy.tenants.find((candidate) => candidate.name === tenant);
  if (own === undefined) return [];
  const parent = own.parent === undefined ? [] : quotasOf(policy, own.parent);
  return [own, ...parent];
}

function overlayBase(fullName: string): string | undefined {
  try {
    const { tenant, view, overlay } = parseViewName(fullName);
    return overlay === undefined ? undefined : formatViewName({ tenant, view });
  } catch {
    return undefined;
  }
}
