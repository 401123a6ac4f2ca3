import { randomBytes } from "node:crypto";

import { CacheError, isCacheError, type Logger } from "@glorious/core";
import {
  type CachePermission,
  decideGrant,
  type Grant,
  type GrantRequest,
  type Principal,
  signToken,
  type TokenClaims,
  type TokenGrant,
  type TokenKey,
  type TrustPolicy,
} from "@glorious/trust";

import type { AdoptionReport, AdoptionWish } from "../adoption/adopt-overlays.ts";
import type { PrincipalFacts, RevocationTarget } from "../index/provenance-index.ts";
import { factsOfGrant } from "../trust/principal-facts.ts";
import type { ConfirmedNames } from "./confirmed-names.ts";
import type { IdentityVerifier, VerifiedIdentity } from "./identity-verifier.ts";
import { createRateLimiter } from "./rate-limiter.ts";
import { grantRefusal, identityRefusal, revokedRefusal } from "./refusals.ts";
import { createSightings } from "./sightings.ts";

/** An identity token that somebody brought, and what for. */
export interface ExchangeRequest extends GrantRequest {
  readonly token: string;
  /** Whom the request counts for, see `clientAddress`. */
  readonly address: string;
  readonly requestId: string;
}

export interface Exchanged {
  /** A token of this server, good for every protocol. Secret. */
  readonly token: string;
  readonly expiresAtMs: number;
  readonly grant: Grant;
  /** Sentences for people. */
  readonly notices: readonly string[];
}

/** What became of an exchange, for counting. */
export type ExchangeResult = "granted" | "refused" | "limited" | "unavailable";

export interface ExchangeOptions {
  readonly policy: () => TrustPolicy;
  readonly verifier: IdentityVerifier;
  /** Signs the new tokens. */
  readonly key: TokenKey;
  /** What the new tokens name. */
  readonly issuer: () => string;
  readonly audiences: () => readonly string[];
  readonly now: () => number;
  readonly logger: Logger;
  readonly onExchange: (result: ExchangeResult) => void;
  readonly names: ConfirmedNames;
  /** Whether a revocation names a job; `jti` is of a token of ours. */
  readonly isRevoked: (caller: RevocationTarget) => Promise<boolean>;
  /** Takes over what a merge queue built of the commit that a trusted push presents. */
  readonly adopt: (wish: AdoptionWish) => Promise<AdoptionReport | undefined>;
}

/** Exchanges an identity token. @throws {CacheError} as `exchangeIdentity` of the routes' page says. */
export type ExchangeIdentity = (request: ExchangeRequest) => Promise<Exchanged>;

/**
 * Refused tokens that one address may bring: a fleet behind one address whose tokens are good is never held back by it.
 */
const REFUSALS = { burst: 60, perSecond: 1, maxKeys: 20_000 };
/** Good ones of one repository: a matrix of hundreds of jobs may begin at once. */
const EXCHANGES = { burst: 600, perSecond: 10, maxKeys: 20_000 };

const PULL: ReadonlySet<CachePermission> = new Set(["pull"]);
const PULL_AND_PUSH: ReadonlySet<CachePermission> = new Set(["pull", "push"]);

/** Attic's servers allow the clock no drift at a token's start. */
const NOT_BEFORE_MARGIN_MS = 60_000;

/** Makes the exchange of identity tokens for short-lived tokens of this server. */
export function createExchange(options: ExchangeOptions): ExchangeIdentity {
  const { verifier, key, now, logger } = options;
  const refusals = createRateLimiter({ ...REFUSALS, now });
  const exchanges = createRateLimiter({ ...EXCHANGES, now });
  const sightings = createSightings(now);

  const identify = async (request: ExchangeRequest): Promise<VerifiedIdentity> => {
    const verdict = await verifier.verify(request.token);
    if (verdict.kind === "verified") return verdict;
    const { code, message, claimedIssuer } = verdict;
    logger.warn("refused an identity token", {
      requestId: request.requestId,
      reason: code,
      detail: message,
      claimedIssuer: claimedIssuer?.slice(0, 256),
      address: request.address,
    });
    throw identityRefusal(verdict);
  };

  const decide = (identity: VerifiedIdentity, request: ExchangeRequest): Grant => {
    const { principal } = identity;
    const { view, mode } = request;
    const decision = decideGrant(options.policy(), principal, { view, mode });
    if (decision.kind === "granted") return decision.grant;
    logger.warn("refused an identity", {
      requestId: request.requestId,
      reason: decision.code,
      detail: decision.reason,
      rule: decision.rule,
      asked: { view, mode },
      address: request.address,
      ...describe(principal),
    });
    throw grantRefusal(decision.code);
  };

  const requireConfirmed = async (
    { principal }: VerifiedIdentity,
    { confirmed }: Grant,
    { requestId, address }: ExchangeRequest,
  ): Promise<void> => {
    if (confirmed === undefined) return;
    const problem = await options.names.check(confirmed);
    if (problem === undefined) return;
    const reason = "confirm-again";
    const detail = problem;
    const entry = { requestId, reason, detail, address, ...describe(principal) };
    logger.warn("refused an identity", entry);
    throw grantRefusal(reason);
  };

  /** The gate would refuse the token all the same, without a word of why. */
  const requireUnrevoked = async (
    { principal }: VerifiedIdentity,
    { requestId, address }: ExchangeRequest,
  ): Promise<void> => {
    const { id, run } = principal;
    if (!(await options.isRevoked({ principal: id, run, jti: undefined }))) return;
    const reason = "revoked";
    logger.warn("refused an identity", { requestId, reason, address, ...describe(principal) });
    throw revokedRefusal();
  };

  const adopt = async (
    { adopt: adoption, write }: Grant,
    subject: string,
    adopter: PrincipalFacts,
  ): Promise<AdoptionReport | undefined> => {
    if (adoption?.role !== "takes" || write === undefined) return undefined;
    return options.adopt({ view: write, key: adoption.key, adopter, subject });
  };

  const sign = async (
    subject: string,
    grant: TokenGrant,
    jti: string,
    expiresAtMs: number,
  ): Promise<string> => {
    const claims: TokenClaims = {
      subject,
      jti,
      issuer: options.issuer(),
      audiences: options.audiences(),
      expiresAtMs,
      notBeforeMs: now() - NOT_BEFORE_MARGIN_MS,
      caches: permissionsOf(grant),
      isAdmin: false,
      grant,
    };
    return signToken(key, claims);
  };

  const exchange: ExchangeIdentity = async (request) => {
    const { address } = request;
    if (!refusals.mayPass(address)) throw tooMany("address");
    let identity: VerifiedIdentity;
    let grant: Grant;
    try {
      identity = await identify(request);
      grant = decide(identity, request);
      await requireConfirmed(identity, grant, request);
      await requireUnrevoked(identity, request);
    } catch (error) {
      // An issuer that does not answer is not the client's doing.
      if (!isCacheError(error, "UNAVAILABLE")) refusals.charge(address);
      throw error;
    }
    const { principal, jti: identityJti } = identity;
    if (!exchanges.mayPass(principal.id)) throw tooMany("repository");
    exchanges.charge(principal.id);
    const sighting = sightings.note(request.token, { address, expiresAtMs: identity.expiresAtMs });
    const jti = randomBytes(16).toString("hex");
    // Whole seconds, as the token has them.
    const expiresAtMs = Math.floor(now() / 1000 + grant.lifetimeSeconds) * 1000;
    const tokenGrant = toTokenGrant(principal, grant);
    const adoption = await adopt(grant, principal.id, factsOfGrant(tokenGrant, jti));
    const adopted = adoption?.entries;
    const token = await sign(principal.id, { ...tokenGrant, adopted }, jti, expiresAtMs);
    const entry = {
      requestId: request.requestId,
      jti,
      identityJti,
      trust: grant.trust,
      read: grant.read,
      write: grant.write,
      rule: grant.rule,
      address,
      exchanges: sighting.count,
      ...describe(principal),
    };
    if (sighting.address === address) logger.info("exchanged an identity token", entry);
    else {
      logger.warn("an identity token came from another address than before", {
        ...entry,
        firstAddress: sighting.address,
        firstSeenAt: new Date(sighting.firstSeenAtMs).toISOString(),
      });
    }
    const notices = [...identity.notices, ...describeAdoption(adoption)];
    return { token, expiresAtMs, grant, notices };
  };

  return async (request) => {
    try {
      const exchanged = await exchange(request);
      options.onExchange("granted");
      return exchanged;
    } catch (error) {
      options.onExchange(resultOf(error));
      throw error;
    }
  };
}

function resultOf(error: unknown): ExchangeResult {
  if (isCacheError(error, "RATE_LIMITED")) return "limited";
  return isCacheError(error, "UNAVAILABLE") ? "unavailable" : "refused";
}

/** For people; nothing when everything was there already. */
function describeAdoption(report: AdoptionReport | undefined): string[] {
  if (report === undefined || (report.state === "done" && report.entries === 0)) return [];
  const { entries, overlays, state } = report;
  const what = `${entries} ${entries === 1 ? "entry" : "entries"} of ${overlays.join(", ")}`;
  const built = "which the merge queue built from this very commit";
  if (state === "done") return [`Adopted ${what}, ${built}.`];
  const rest = {
    running: "the others follow in the background",
    full: "the view has no room for the others",
    failed: "the others failed, and are tried again at the next exchange",
  }[state];
  return [`Adopted ${what}, ${built}; ${rest}.`];
}

/** Exact names, so that the token gives an Attic server neither more nor less. */
function permissionsOf({ read, write }: TokenGrant): TokenClaims["caches"] {
  const names = new Set(write === undefined ? read : [write, ...read]);
  return [...names].map((name) => [name, name === write ? PULL_AND_PUSH : PULL]);
}

function toTokenGrant(principal: Principal, grant: Grant): TokenGrant {
  const { run, attempt, commit, repository, ref } = principal;
  const { tenant, trust, read, write, overlayOf, overlayKey, adopt, rule, reason } = grant;
  return {
    ...{ tenant, trust, read, write, overlayOf, overlayKey, adopt, rule, reason },
    ...{ principal: principal.id, run, attempt, commit, ref },
    repository: repository?.name,
  };
}

/** Who it was, for the log: ids decide, names help people. */
function describe(principal: Principal): Record<string, unknown> {
  const { id, repository, owner, ref, event, run, attempt, commit, actor, serviceAccount } =
    principal;
  return {
    principal: id,
    repository: repository?.name,
    owner: owner?.name,
    ...{ ref, event, run, attempt, commit },
    actor: actor?.name,
    serviceAccount: serviceAccount && `${serviceAccount.namespace}/${serviceAccount.name}`,
  };
}

function tooMany(what: "address" | "repository"): CacheError {
  const message =
    what === "address"
      ? "Too many identity tokens from this address were refused"
      : "Too many identity tokens of this identity were exchanged";
  return new CacheError("RATE_LIMITED", message, {
    hint: "Wait a little; one exchange at a job's start is enough.",
  });
}
