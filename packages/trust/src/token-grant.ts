import * as v from "valibot";

/** What an exchanged token says of the job it was made for, beside its permissions. Decided by the server alone. */
export interface TokenGrant {
  /** `undefined` for the default tenant. */
  readonly tenant: string | undefined;
  readonly trust: "trusted" | "overlay" | "untrusted";
  /** The stable id of the principal, see `Principal.id`. */
  readonly principal: string;
  readonly run: string | undefined;
  readonly attempt: string | undefined;
  readonly commit: string | undefined;
  /** Its name, for people. */
  readonly repository: string | undefined;
  readonly ref: string | undefined;
  /** Full view names in the order of reading. */
  readonly read: readonly string[];
  readonly write: string | undefined;
  /** The base of `write`, when that is an overlay. */
  readonly overlayOf: string | undefined;
  /** Whose overlay `write` is, see `Grant.overlayKey`. */
  readonly overlayKey: string | undefined;
  /** Ties a merge queue's overlay to the push that lands the same commit, see `Adoption`. */
  readonly adopt: { readonly role: "offers" | "takes"; readonly key: string } | undefined;
  /** How many entries the exchange took over from a merge queue's overlay. */
  readonly adopted?: number | undefined;
  /** Where the rule that decided stands in the policy. */
  readonly rule: string;
  /** One plain sentence. */
  readonly reason: string;
}

const text = v.optional(v.string());
const ABSENT = {
  tenant: undefined,
  run: undefined,
  attempt: undefined,
  commit: undefined,
  repository: undefined,
  ref: undefined,
  write: undefined,
  overlayOf: undefined,
  overlayKey: undefined,
  adopt: undefined,
  adopted: undefined,
};

/** How a grant stands in a token's payload. */
export const TOKEN_GRANT_SCHEMA: v.GenericSchema<unknown, TokenGrant> = v.pipe(
  v.object({
    tenant: text,
    trust: v.picklist(["trusted", "overlay", "untrusted"]),
    principal: v.string(),
    run: text,
    attempt: text,
    commit: text,
    repository: text,
    ref: text,
    read: v.array(v.string()),
    write: text,
    overlayOf: text,
    overlayKey: text,
    adopted: v.optional(v.number()),
    adopt: v.optional(v.object({ role: v.picklist(["offers", "takes"]), key: v.string() })),
    rule: v.string(),
    reason: v.string(),
  }),
  // What is absent is there as `undefined`, so that nobody has to look for it in two ways.
  v.transform((grant) => ({ ...ABSENT, ...grant })),
);
