import { isCacheError } from "@glorious/core";
import { decodeTokenUnverified, parseTokenClaims } from "@glorious/trust";

import type { CliContext } from "./cli-context.ts";

/** What {@link checkServer} found. */
export interface ServerCheck {
  readonly notes: readonly string[];
  readonly warnings: readonly string[];
}

/** What {@link checkServer} asks about. */
export interface ServerToCheck {
  readonly server: string;
  /** Secret. */
  readonly token: string | undefined;
  readonly view: string | undefined;
}

/**
 * Asks a server what it is and whether it takes the token.
 *
 * @throws {CacheError} whatever keeps the server, or the view named, from being used.
 */
export async function checkServer(check: ServerToCheck, context: CliContext): Promise<ServerCheck> {
  const { server, token, view } = check;
  const notes: string[] = [];
  const warnings = describeToken(token, context.nowMs());
  const { createAdminClient, openCache } = await import("@glorious/cache-client");
  if (view !== undefined) {
    await using cache = await openCache({ server, token, view, signal: context.signal });
    const { flywheel, isPublic } = cache.config;
    const version = flywheel?.serverVersion ?? "";
    const kind = cache.kind === "flywheel" ? `flywheel ${version}`.trim() : "an Attic server";
    const visibility = isPublic === true ? "public" : "private";
    notes.push(`${server} is ${kind}; view ${view} is there and ${visibility}.`);
    return { notes, warnings };
  }
  await using admin = createAdminClient({ server, token, signal: context.signal });
  const info = await admin.serverInfo().catch((error: unknown) => {
    if (isCacheError(error, "UNSUPPORTED")) return undefined;
    throw error;
  });
  if (info === undefined) {
    notes.push(`${server} answers, and is no flywheel server: taken as an Attic server.`);
    warnings.push("Whether it takes the token shows only with a view: give --view NAME.");
    return { notes, warnings };
  }
  const views = await admin.listViews();
  const names = views.map(({ name }) => name);
  const seen = names.length === 0 ? "no view that you may see" : `your views: ${names.join(", ")}`;
  notes.push(`${server} is flywheel ${info.version}; ${seen}.`);
  return { notes, warnings };
}

function describeToken(token: string | undefined, nowMs: number): string[] {
  if (token === undefined) return [];
  const decoded = decodeTokenUnverified(token);
  // Tokens are opaque to a client: one that cannot be read may still be good.
  if (decoded === undefined) return [];
  try {
    const { expiresAtMs } = parseTokenClaims(decoded.payload);
    return expiresAtMs !== undefined && expiresAtMs < nowMs
      ? [`The token expired at ${new Date(expiresAtMs).toISOString()}.`]
      : [];
  } catch {
    return [];
  }
}
