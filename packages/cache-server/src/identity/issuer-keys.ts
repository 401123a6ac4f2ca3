import { CacheError, describeError, formatDurationMs, type Logger } from "@glorious/core";
import { type JsonWebKeySet, parseKeySet, type PolicyIssuer } from "@glorious/trust";

import type { FetchDocument } from "./fetch-document.ts";
import { findKeysAddress, requireKeysAddress } from "./find-keys-address.ts";

/** An issuer's keys as far as they are known. */
export interface KnownKeys {
  readonly jwks: JsonWebKeySet;
  /** One sentence when they are older than they should be, because the issuer does not answer. */
  readonly notice: string | undefined;
}

/** The keys of one issuer. */
export interface IssuerKeys {
  /** @throws {CacheError} `UNAVAILABLE` when none are known and the issuer does not answer. */
  current(): Promise<KnownKeys>;
  /**
   * The keys after a look whether there are newer ones, because a token names one that is not among them.
   *
   * @returns `undefined` when the last look was too short ago.
   * @throws {CacheError} `UNAVAILABLE` when the issuer does not answer, so that nobody can tell.
   */
  lookForNewer(): Promise<KnownKeys | undefined>;
}

/** Where fetched keys outlive the process, so that a restart during an issuer's outage is none of ours. */
export interface KeyShelf {
  load(issuer: string): Promise<FetchedKeys | undefined>;
  save(issuer: string, keys: FetchedKeys): Promise<void>;
}

export interface FetchedKeys {
  readonly text: string;
  readonly fetchedAtMs: number;
}

export interface IssuerKeysOptions {
  readonly issuer: Pick<PolicyIssuer, "issuer" | "jwksUri" | "jwksFile">;
  readonly fetch: FetchDocument;
  /** Reads a key set's file. */
  readonly readFile: (file: string) => Promise<string>;
  readonly shelf?: KeyShelf | undefined;
  readonly now: () => number;
  readonly logger: Logger;
}

/** Keys are asked for again after this time; the forges keep a new key published before they use it. */
const FRESH_MS = 10 * 60_000;
/** Keys that the issuer has not confirmed for so long are no keys any more. */
const MAX_STALE_MS = 24 * 3_600_000;
/** An issuer that failed is left alone for this long; what is known serves meanwhile. */
const FAILURE_PAUSE_MS = 30_000;
/** Anybody can name unknown keys: at most one look in this time is made for them. */
const UNKNOWN_KEY_PAUSE_MS = 60_000;

interface Known {
  readonly jwks: JsonWebKeySet;
  readonly fetchedAtMs: number;
}

interface Failure {
  readonly atMs: number;
  readonly error: CacheError;
}

/** Fetches an issuer's keys when they are needed, remembers them, and bounds how often and how long. */
export function createIssuerKeys(options: IssuerKeysOptions): IssuerKeys {
  const { issuer, now, logger, shelf } = options;
  let known: Known | undefined;
  let failure: Failure | undefined;
  let lastLookMs = -Infinity;
  let underWay: Promise<void> | undefined;
  let isShelfRead = false;

  const readText = async (): Promise<string> => {
    if (issuer.jwksFile !== undefined) return options.readFile(issuer.jwksFile);
    const address =
      issuer.jwksUri === undefined
        ? await findKeysAddress(issuer.issuer, options.fetch)
        : requireKeysAddress(issuer.jwksUri, `The key set of ${issuer.issuer}`);
    return options.fetch(address);
  };

  const fetchOnce = async (): Promise<void> => {
    try {
      const text = await readText();
      const jwks = parseKeySet(text);
      known = { jwks, fetchedAtMs: now() };
      if (failure !== undefined) logger.info("the issuer's keys can be had again", about(issuer));
      failure = undefined;
      if (issuer.jwksFile !== undefined) return;
      await shelf?.save(issuer.issuer, { text, fetchedAtMs: known.fetchedAtMs });
    } catch (error) {
      failure = { atMs: now(), error: toFailure(error, issuer.issuer) };
      logger.warn("an issuer's keys cannot be had", { ...about(issuer), error });
    }
  };

  /** Everybody who wants the same waits for one request. */
  const refresh = (): Promise<void> =>
    (underWay ??= fetchOnce().finally(() => {
      underWay = undefined;
    }));

  const recallShelf = async (): Promise<void> => {
    if (isShelfRead) return;
    isShelfRead = true;
    const kept = await shelf?.load(issuer.issuer);
    if (kept === undefined || known !== undefined) return;
    // A time in the future is a clock that was wrong.
    const fetchedAtMs = Math.min(kept.fetchedAtMs, now());
    try {
      known = { jwks: parseKeySet(kept.text), fetchedAtMs };
    } catch (error) {
      logger.warn("the kept keys of an issuer are unusable", { ...about(issuer), error });
    }
  };

  const usable = (): KnownKeys => {
    const ageMs = known === undefined ? Infinity : now() - known.fetchedAtMs;
    if (known === undefined || ageMs > MAX_STALE_MS) {
      throw new CacheError("UNAVAILABLE", "The keys of the token's issuer cannot be had now", {
        cause: failure?.error,
        hint: "Try again later; a token from before stays valid until it expires.",
      });
    }
    if (failure === undefined) return { jwks: known.jwks, notice: undefined };
    const age = formatDurationMs(Math.ceil(ageMs / 1000) * 1000);
    const notice = `The issuer does not answer: its keys of ${age} ago are used.`;
    return { jwks: known.jwks, notice };
  };

  return {
    async current() {
      await recallShelf();
      const isPausing = failure !== undefined && now() - failure.atMs < FAILURE_PAUSE_MS;
      const isFresh = known !== undefined && now() - known.fetchedAtMs < FRESH_MS;
      if (!isFresh && !isPausing) await refresh();
      return usable();
    },

    async lookForNewer() {
      if (now() - lastLookMs < UNKNOWN_KEY_PAUSE_MS) {
        if (failure !== undefined) throw unavailable(failure);
        return undefined;
      }
      lastLookMs = now();
      await refresh();
      if (failure !== undefined) throw unavailable(failure);
      return usable();
    },
  };
}

function unavailable({ error }: Failure): CacheError {
  return new CacheError(
    "UNAVAILABLE",
    "The token's key is not known, and its issuer does not answer",
    { cause: error, hint: "Try again later." },
  );
}

function toFailure(error: unknown, issuer: string): CacheError {
  if (error instanceof CacheError) return error;
  return new CacheError("UNAVAILABLE", `The keys of ${issuer}: ${describeError(error)}`, {
    cause: error,
  });
}

function about({ issuer, jwksFile }: IssuerKeysOptions["issuer"]): Record<string, string> {
  return jwksFile === undefined ? { issuer } : { issuer, jwksFile };
}
