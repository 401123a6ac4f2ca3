import type { NameConfirmation } from "../policy/trust-policy.ts";

/** How far what a job writes may be believed. */
export type Trust = "trusted" | "overlay" | "untrusted";

/** What a client asks for. It can only narrow what the policy gives. */
export interface GrantRequest {
  /** A full name; without it the view that the policy gives. */
  readonly view?: string | undefined;
  /** `read` gives up writing; `write` refuses a grant that could not write. Default: what there is. */
  readonly mode?: "read" | "write" | undefined;
}

/** Ties what a merge queue built to the push that lands the very same commit. */
export interface Adoption {
  /** The queue's run `offers` its overlay, the trusted push `takes` it. */
  readonly role: "offers" | "takes";
  /** Both sides' must be equal: repository, commit and workflow file. */
  readonly key: string;
}

/** A name that an operator confirmed, as the rule that decided has it. */
export interface ConfirmedName extends NameConfirmation {
  /** The same for one issuer and owner, or one issuer and repository. */
  readonly key: string;
  /** Where the rule says so, such as `tenants.acme.scopes[3].organization.confirmed`. */
  readonly place: string;
}

/** What a principal may do, as the server alone decides. */
export interface Grant {
  /** `undefined` for the default tenant. */
  readonly tenant: string | undefined;
  readonly trust: Trust;
  /** Full names in the order of reading: overlay, own view, shared views. Never empty. */
  readonly read: readonly string[];
  readonly write: string | undefined;
  /** The base of `write`, when that is an overlay. */
  readonly overlayOf: string | undefined;
  /**
   * Whose overlay it is: 64 hexadecimal digits over the issuer, the repository's id and its ref or pull request. An
   * overlay belongs to the first key that wrote it, because the 8 digits in its name can be made to collide.
   */
  readonly overlayKey: string | undefined;
  /** Present when the policy lets merge queues be adopted and this run may take part. */
  readonly adopt: Adoption | undefined;
  /** Set where the rule knows its principals by a name: it counts while the confirmation does. */
  readonly confirmed: ConfirmedName | undefined;
  /** The longest life of a token for this grant. */
  readonly lifetimeSeconds: number;
  /** Where the rule that decided stands in the policy. */
  readonly rule: string;
  /** One plain sentence. */
  readonly reason: string;
}

/** Why there is no grant. The codes never change their meaning. */
export type GrantRefusal =
  | "unknown-issuer"
  | "no-matching-scope"
  | "ids-required"
  | "confirm-again"
  | "untrusted-no-read"
  | "view-not-granted"
  | "write-not-granted"
  | "bad-request";

/** What the policy says to a principal. `reason` is for the operator. */
export type GrantDecision =
  | { readonly kind: "granted"; readonly grant: Grant }
  | {
      readonly kind: "refused";
      readonly code: GrantRefusal;
      readonly reason: string;
      readonly rule: string | undefined;
    };
