import * as v from "valibot";

/** Why a path is in the commons, or is not, as far as who asks may know. Times are in ISO 8601. */
export interface CommonsExplanation {
  readonly storePathHash: string;
  /** The view that the commons is. */
  readonly view: string;
  /** How many tenants must have built a path alike. */
  readonly tenantsNeeded: number;
  readonly isHeld: boolean;
  /** `agreement` of tenants, or its own `content`. */
  readonly heldBy?: string | undefined;
  /** Views that stand to what is there. */
  readonly votes: ReadonlyArray<{
    readonly view: string;
    readonly tenant?: string | undefined;
    readonly at: string;
    readonly isWithdrawn: boolean;
  }>;
  /** What trusted jobs wrote into views that contribute, alike under one NAR hash and the same references. */
  readonly versions: ReadonlyArray<{
    readonly narHash: string;
    readonly views: readonly string[];
    readonly tenants: number;
    /** Hashes of references that must be there first. */
    readonly missingReferences: readonly string[];
  }>;
}

export const CommonsExplanationSchema: v.GenericSchema<unknown, CommonsExplanation> = v.object({
  storePathHash: v.string(),
  view: v.string(),
  tenantsNeeded: v.number(),
  isHeld: v.boolean(),
  heldBy: v.optional(v.string()),
  votes: v.array(
    v.object({
      view: v.string(),
      tenant: v.optional(v.string()),
      at: v.string(),
      isWithdrawn: v.boolean(),
    }),
  ),
  versions: v.array(
    v.object({
      narHash: v.string(),
      views: v.array(v.string()),
      tenants: v.number(),
      missingReferences: v.array(v.string()),
    }),
  ),
});
