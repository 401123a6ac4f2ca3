import type { ExchangedToken } from "@glorious/cache-client";
import { CacheError, describeError, isCacheError } from "@glorious/core";
import { decodeTokenUnverified } from "@glorious/trust";

import { type CliContext, warn } from "./cli-context.ts";
import { readClientConfig, type SavedServer, writeClientConfig } from "./client-config.ts";
import type { SavedIdentity } from "./saved-identity.ts";

/** A token is replaced when less than this is left, or less than a fifth of its life. */
const MARGIN_MS = 5 * 60_000;

/** Gets an identity token anew and exchanges it. Notices go to the user. */
export async function exchangeIdentity(
  server: string,
  { source, audience, view, mode }: SavedIdentity,
  context: CliContext,
): Promise<ExchangedToken> {
  const { createExchangeClient, obtainIdentityToken } = await import("@glorious/cache-client");
  await using client = createExchangeClient({ server, signal: context.signal });
  const token = await obtainIdentityToken(source, audience, context.signal);
  const exchanged = await client.exchange(token, { view, mode });
  for (const notice of exchanged.notices) warn(context, notice);
  return exchanged;
}

/**
 * The saved server with a token that lasts a while: an exchanged one that is about to expire is exchanged again, and
 * saved. One that still works is used when that fails.
 *
 * @throws {CacheError} when the token has expired and no other can be had.
 */
export async function refreshToken(
  name: string | undefined,
  saved: SavedServer,
  context: CliContext,
): Promise<SavedServer> {
  const { identity, token } = saved;
  if (name === undefined || identity === undefined || token === undefined) return saved;
  const leftMs = remainingMs(token, context.nowMs());
  if (leftMs.left > Math.min(MARGIN_MS, leftMs.life / 5)) return saved;
  try {
    const exchanged = await exchangeIdentity(saved.url, identity, context);
    const refreshed = { ...saved, token: exchanged.token };
    await saveServer(name, refreshed, context);
    return refreshed;
  } catch (error) {
    if (!isCacheError(error) || error.code === "CANCELLED") throw error;
    if (leftMs.left > 0) {
      warn(context, `The token for ${saved.url} expires soon, and: ${describeError(error)}`);
      return saved;
    }
    throw new CacheError(error.code, `The token for ${saved.url} has expired: ${error.message}`, {
      cause: error,
      hint: error.hint ?? "Run `flywheel exchange` again.",
    });
  }
}

/** Keeps one server and leaves what else is saved, also what another process saved meanwhile. */
export async function saveServer(
  name: string,
  server: SavedServer,
  context: CliContext,
  { makeDefault = false }: { readonly makeDefault?: boolean } = {},
): Promise<void> {
  const config = await readClientConfig(context);
  const defaultServer = makeDefault ? name : (config.defaultServer ?? name);
  await writeClientConfig(context, {
    defaultServer,
    servers: { ...config.servers, [name]: server },
  });
}

/** How long a token lasts and how long it lasted at first; what cannot be read lasts for ever. */
function remainingMs(
  token: string,
  nowMs: number,
): { readonly left: number; readonly life: number } {
  const payload = decodeTokenUnverified(token)?.payload ?? {};
  const { exp, nbf } = payload;
  if (typeof exp !== "number") return { left: Infinity, life: Infinity };
  const life = typeof nbf === "number" ? (exp - nbf) * 1000 : Infinity;
  return { left: exp * 1000 - nowMs, life };
}
