import { join } from "node:path";

import { CacheError, type Logger } from "@glorious/core";
import type { TokenKey } from "@glorious/trust";

import type { ServerSettings } from "../config/settings.ts";
import type { TokenKeys } from "../config/token-keys.ts";
import type { CacheIndex } from "../index/cache-index.ts";
import type { ViewPolicy } from "../trust/view-policy.ts";
import { createConfirmedNames } from "./confirmed-names.ts";
import {
  createExchange,
  type ExchangeIdentity,
  type ExchangeOptions,
  type ExchangeResult,
} from "./exchange-identity.ts";
import { fetchDocument } from "./fetch-document.ts";
import { createIdentityVerifier } from "./identity-verifier.ts";
import { createKeyShelf } from "./key-shelf.ts";
import { openPolicyFile } from "./policy-file.ts";
import { createPolicyViews, toViewPolicy } from "./policy-views.ts";
import { withKeyId } from "./token-key-set.ts";

/** Everything that stands on the trust policy. */
export interface Identity extends Disposable {
  readonly exchange: ExchangeIdentity;
  /** What identity tokens must be meant for: the server's public address without its final slash. */
  readonly audience: string;
  /** Of exchanged tokens. */
  readonly tokenIssuer: string;
  readonly tokenAudiences: readonly string[];
  readonly viewPolicy: ViewPolicy;
  /** Tells where the server listens, for a server without a public address. */
  listensAt(url: string): void;
}

export interface IdentityOptions {
  readonly settings: ServerSettings;
  readonly tokenKeys: TokenKeys;
  readonly index: CacheIndex;
  readonly now: () => number;
  readonly logger: Logger;
  readonly onExchange: (result: ExchangeResult) => void;
  readonly onPolicyProblem: () => void;
  readonly adopt: ExchangeOptions["adopt"];
}

/**
 * Opens the exchange of identity tokens; `undefined` where there is no policy.
 *
 * @throws {CacheError} `CONFIG` when the policy is unusable, nothing can sign, or nobody could know the audience.
 */
export async function openIdentity(options: IdentityOptions): Promise<Identity | undefined> {
  const { settings, tokenKeys, index, now, logger } = options;
  const { trustPolicyFile: file, dataDirectory, publicUrl } = settings;
  if (file === undefined) return undefined;
  const key = requireSigningKey(tokenKeys, logger);
  requireAudience(settings);
  let audience = publicUrl?.replace(/\/$/, "") ?? "";
  const policyFile = await openPolicyFile({
    file,
    reloadIntervalMs: settings.trustReloadIntervalMs,
    logger,
    onLoad: (policy) => createPolicyViews(policy, { index, now, logger }),
    onProblem: options.onPolicyProblem,
  });
  const policy = (): typeof policyFile.policy => policyFile.policy;
  const tokenIssuer = (): string => settings.tokenIssuer ?? audience;
  const tokenAudiences = (): readonly string[] =>
    settings.tokenAudiences.length > 0 ? settings.tokenAudiences : [audience];
  const verifier = createIdentityVerifier({
    policy,
    // People write an address with and without its slash, and it is the same server.
    audiences: () => [audience, `${audience}/`],
    fetch: fetchDocument,
    shelf:
      dataDirectory === undefined
        ? undefined
        : createKeyShelf(join(dataDirectory, "issuer-keys"), logger),
    now,
    logger,
  });
  return {
    exchange: createExchange({
      policy,
      verifier,
      key,
      issuer: tokenIssuer,
      audiences: tokenAudiences,
      now,
      logger,
      onExchange: options.onExchange,
      adopt: options.adopt,
      isRevoked: (caller) => index.isRevoked(caller),
      names: createConfirmedNames(index, now),
    }),
    get audience() {
      return audience;
    },
    get tokenIssuer() {
      return tokenIssuer();
    },
    get tokenAudiences() {
      return tokenAudiences();
    },
    viewPolicy: toViewPolicy(policyFile),
    listensAt(url) {
      if (publicUrl === undefined) audience = url;
    },
    [Symbol.dispose]: () => policyFile[Symbol.dispose](),
  };
}

/** RS256 before HS256, because others can verify it. */
function requireSigningKey({ keys, signing }: TokenKeys, logger: Logger): TokenKey {
  const key =
    keys.find((each) => each.algorithm === "RS256" && each.privateKey !== undefined) ?? signing;
  if (key === undefined) {
    throw new CacheError("CONFIG", "trust.policyFile needs a key that can sign tokens", {
      hint: "Add an RS256 private key to tokens.keys: `openssl genrsa -traditional 4096`.",
    });
  }
  if (key.algorithm === "HS256") {
    logger.warn(
      "exchanged tokens are signed with HS256: whoever could verify them elsewhere could make them, so no other " +
        "server can take them; add an RS256 private key to tokens.keys to publish its public half",
    );
  }
  return withKeyId(key);
}

/** The audience must be known beforehand: what a request says of its host is the client's own word. */
function requireAudience({ publicUrl, listen }: ServerSettings): void {
  const isLoopback = /^(localhost|::1|127\.\d+\.\d+\.\d+)$/.test(listen.host);
  if (publicUrl !== undefined || isLoopback) return;
  throw new CacheError("CONFIG", "trust.policyFile needs publicUrl", {
    hint: "Identity tokens are made for this very address; set it with --public-url or FLYWHEEL_PUBLIC_URL.",
  });
}
