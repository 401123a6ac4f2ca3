import { CacheError } from "@glorious/core";
import type { Grant, TokenKey } from "@glorious/trust";
import * as v from "valibot";

import type { Exchange } from "../http/exchange.ts";
import { readJsonBody } from "../http/json-body.ts";
import type { Route } from "../http/router.ts";
import { sendJson } from "../http/send.ts";
import { clientAddress } from "../identity/client-address.ts";
import type { Exchanged } from "../identity/exchange-identity.ts";
import type { Identity } from "../identity/open-identity.ts";
import { publishKeys } from "../identity/token-key-set.ts";
import type { ViewRecord } from "../index/cache-index.ts";
import { baseOfOverlay } from "../trust/read-chain.ts";
import { baseUrl, bazelEndpoints } from "./request-url.ts";
import type { RouteServices } from "./route-services.ts";
import { upstreamKeysOf } from "./upstream-keys.ts";

/** A token of at most 16 Ki characters, and little beside it. */
const MAX_BODY_BYTES = 32 * 1024;
/** The oldest client that understands what is answered here. */
const MINIMUM_CLIENT = "0.0.0";

const ExchangeBody = v.object({
  token: v.string(),
  view: v.optional(v.string()),
  mode: v.optional(v.picklist(["read", "write"], 'Expected "read" or "write"')),
});

/** What a job asks before it builds: what is here, and what it may do. */
export function identityRoutes(services: RouteServices): Route[] {
  const { identity, index, limits } = services;

  const discover = async (exchange: Exchange): Promise<void> => {
    const base = baseUrl(exchange.request, services.publicUrl);
    const view = await findDefaultView(services);
    sendJson(
      exchange,
      {
        server: "gloriousflywheel",
        version: services.version,
        api: 1,
        minimumClient: MINIMUM_CLIENT,
        endpoints: {
          api: `${base}_flywheel/v1/`,
          attic: base,
          nix: `${base}{view}`,
          ...(services.bazel === undefined ? {} : { bazel: bazelEndpoints(base, "{view}") }),
        },
        ...(view === undefined ? {} : { defaultView: view }),
        ...(identity === undefined
          ? {
              notices: [
                "This server exchanges no identity tokens: its operator has set no trust policy.",
              ],
            }
          : {
              audience: identity.audience,
              exchange: `${base}_flywheel/v1/exchange`,
              tokens: describeTokens(identity, services.newTokens.keys),
              notices: [],
            }),
      },
      { headers: { "cache-control": "public, max-age=300", vary: "host, x-forwarded-proto" } },
    );
  };

  const exchangeToken = async (exchange: Exchange): Promise<void> => {
    if (identity === undefined) {
      throw new CacheError("UNSUPPORTED", "This server exchanges no identity tokens", {
        hint: "Its operator has set no trust policy (trust.policyFile); use a token of `flywheel token create`.",
      });
    }
    const body = await readJsonBody(exchange, ExchangeBody, {
      ...limits,
      maxSizeBytes: MAX_BODY_BYTES,
    });
    const exchanged = await identity.exchange({
      ...body,
      address: clientAddress(exchange.request, services.addressHeader),
      requestId: exchange.requestId,
    });
    const base = baseUrl(exchange.request, services.publicUrl);
    sendJson(exchange, await describeExchanged(exchanged, base, services), {
      headers: { "cache-control": "no-store" },
    });
  };

  /** Keys of the views that this very job may read, and of no others. */
  const publicKeysOf = async (names: readonly string[]): Promise<string[]> => {
    const keys = new Set<string>();
    const views: ViewRecord[] = [];
    for (const name of names) {
      const view = await index.findView(name);
      if (view === undefined) {
        // It comes into being with the job's first write, with this key.
        if (baseOfOverlay(name) !== undefined) keys.add(services.overlayKeys.publicKey(name));
        continue;
      }
      views.push(view);
      for (const { publicKey } of await index.listSigningKeys(view.id)) keys.add(publicKey);
    }
    // Before the views' own: the last one is that of a view, for who knows but one.
    const upstreamKeys = await upstreamKeysOf(index, views);
    return [...new Set([...upstreamKeys, ...keys])];
  };

  /** An overlay comes into being with its base's. */
  const storeDirOf = async (name: string): Promise<string | undefined> => {
    const view = await index.findView(name);
    const base = view === undefined ? baseOfOverlay(name) : undefined;
    return base === undefined ? view?.storeDir : (await index.findView(base))?.storeDir;
  };

  const describeExchanged = async (
    { token, expiresAtMs, grant, notices }: Exchanged,
    base: string,
    { bazel }: Pick<RouteServices, "bazel">,
  ): Promise<Record<string, unknown>> => {
    // What is behind the first view is read through it.
    const [first] = grant.read;
    const storeDir = first === undefined ? undefined : await storeDirOf(first);
    return {
      token,
      tokenType: "Bearer",
      expiresAt: new Date(expiresAtMs).toISOString(),
      grant: describeGrant(grant),
      nix: {
        substituters: first === undefined ? [] : [`${base}${first}`],
        publicKeys: await publicKeysOf(grant.read),
        ...(storeDir === undefined ? {} : { storeDir }),
        ...(grant.write === undefined ? {} : { pushEndpoint: `${base}${grant.write}` }),
      },
      ...(bazel === undefined || first === undefined
        ? {}
        : { bazel: { ...bazelEndpoints(base, first), instance: first } }),
      notices,
    };
  };

  return [
    {
      method: "GET",
      pattern: "/_flywheel/v1/discover",
      family: "flywheel",
      handler: discover,
    },
    {
      method: "POST",
      pattern: "/_flywheel/v1/exchange",
      family: "flywheel",
      handler: exchangeToken,
    },
  ];
}

function describeGrant(grant: Grant): Record<string, unknown> {
  const { tenant, trust, read, write, reason, rule } = grant;
  return { tenant, trust, read, write, reason, rule };
}

/** The view for who names none, where everybody may know of it. */
async function findDefaultView({
  index,
  defaultView,
}: RouteServices): Promise<{ name: string; publicKeys: string[] } | undefined> {
  const view = defaultView === undefined ? undefined : await index.findView(defaultView);
  if (view?.isPublic !== true) return undefined;
  const keys = await index.listSigningKeys(view.id);
  const upstreamKeys = await upstreamKeysOf(index, [view]);
  return {
    name: view.name,
    publicKeys: [...upstreamKeys, ...keys.map(({ publicKey }) => publicKey)],
  };
}

/** What another server needs to verify the tokens that are made here. */
function describeTokens(
  { tokenIssuer, tokenAudiences }: Identity,
  keys: readonly TokenKey[],
): Record<string, unknown> {
  return { issuer: tokenIssuer, audiences: tokenAudiences, jwks: { keys: publishKeys(keys) } };
}
