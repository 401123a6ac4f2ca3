import * as v from "valibot";

/** Who did something, as far as their token said it. Times are in ISO 8601. */
export interface PrincipalFacts {
  /** A stable id: of a forge's repository, or of a token. */
  readonly principal: string;
  readonly trust: string;
  readonly run?: string | undefined;
  readonly commit?: string | undefined;
  readonly repository?: string | undefined;
  readonly ref?: string | undefined;
  readonly jti?: string | undefined;
  /** What the client called itself. */
  readonly client?: string | undefined;
}

/**
 * What can be audited: a store path by its hash, an ActionResult or a blob of Bazel's by the hash of its digest, or one of
 * Nix's documents by its name.
 */
export type AuditKind = "paths" | "actions" | "blobs" | `documents/${DocumentKind}`;

/** What uploads write beside paths. */
export type DocumentKind = "log" | "realisation" | "build-trace" | "debuginfo";

/** Who wrote and who read something, by view; what is Bazel's, by instance name. */
export interface EntryAudit {
  /** Of a path. */
  readonly storePathHash?: string | undefined;
  /** Of an ActionResult or a blob. */
  readonly hash?: string | undefined;
  /** Of a document. */
  readonly name?: string | undefined;
  readonly views: ReadonlyArray<{
    readonly view: string;
    /** `present`, `lost`, `hidden` by a revocation, or `gone`. */
    readonly state: string;
    readonly writers: ReadonlyArray<
      PrincipalFacts & {
        readonly at: string;
        /** The overlay it was written to, when a push took it over from there. */
        readonly adoptedFrom?: string | undefined;
      }
    >;
    readonly readers: ReadonlyArray<
      PrincipalFacts & { readonly firstAt: string; readonly lastAt: string }
    >;
  }>;
}

/** What to revoke: what those wrote that fit all that is given. */
export interface RevocationRequest {
  readonly run?: string | undefined;
  readonly principal?: string | undefined;
  /** A token's id. */
  readonly token?: string | undefined;
  /** In ISO 8601. */
  readonly since?: string | undefined;
  /** Says what would happen, and does nothing. */
  readonly dryRun?: boolean | undefined;
}

/** What a revocation has hidden, or would hide. */
export interface RevocationReport {
  /** For taking it back; a dry run has none. */
  readonly id?: number | undefined;
  readonly entries: number;
  readonly samples: ReadonlyArray<{
    readonly view: string;
    readonly kind: string;
    readonly name: string;
  }>;
  readonly writers: readonly PrincipalFacts[];
  readonly consumers: ReadonlyArray<
    PrincipalFacts & { readonly entries: number; readonly lastAt: string }
  >;
}

/** A revocation that was made once. */
export interface Revocation extends Omit<RevocationRequest, "dryRun"> {
  readonly id: number;
  readonly createdAt: string;
  readonly createdBy?: string | undefined;
  readonly entries: number;
  /** When all was hidden; absent while it is not. */
  readonly finishedAt?: string | undefined;
  readonly liftedAt?: string | undefined;
}

const text = v.optional(v.string());
const facts = {
  principal: v.string(),
  trust: v.string(),
  run: text,
  commit: text,
  repository: text,
  ref: text,
  jti: text,
  client: text,
};

export const EntryAuditSchema: v.GenericSchema<unknown, EntryAudit> = v.object({
  storePathHash: text,
  hash: text,
  name: text,
  views: v.array(
    v.object({
      view: v.string(),
      state: v.string(),
      writers: v.array(v.object({ ...facts, at: v.string(), adoptedFrom: v.optional(v.string()) })),
      readers: v.array(v.object({ ...facts, firstAt: v.string(), lastAt: v.string() })),
    }),
  ),
});
export const RevocationReportSchema: v.GenericSchema<unknown, RevocationReport> = v.object({
  id: v.optional(v.number()),
  entries: v.number(),
  samples: v.array(v.object({ view: v.string(), kind: v.string(), name: v.string() })),
  writers: v.array(v.object(facts)),
  consumers: v.array(v.object({ ...facts, entries: v.number(), lastAt: v.string() })),
});
export const RevocationListSchema: v.GenericSchema<
  unknown,
  { readonly revocations: readonly Revocation[] }
> = v.object({
  revocations: v.array(
    v.object({
      id: v.number(),
      run: text,
      principal: text,
      token: text,
      since: text,
      createdAt: v.string(),
      createdBy: text,
      entries: v.number(),
      finishedAt: text,
      liftedAt: text,
    }),
  ),
});
export const LiftedSchema: v.GenericSchema<unknown, { readonly restored: number }> = v.object({
  restored: v.number(),
});
