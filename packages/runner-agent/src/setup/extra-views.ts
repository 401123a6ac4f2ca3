import { readCacheConfig } from "@glorious/cache-client";
import { describeError, isCacheError } from "@glorious/core";

import type { ViewAddress } from "../session/session-state.ts";
import type { NixFacts } from "./detect-nix.ts";
import { type Access, describeView } from "./open-access.ts";
import type { SetupWarning } from "./setup-request.ts";

/** The views that a job reads besides its own. */
export interface ExtraViews {
  /** In the order of asking. */
  readonly views: readonly ViewAddress[];
  readonly publicKeys: readonly string[];
  /** Which are left out, and why. */
  readonly warning?: SetupWarning;
}

export const NO_EXTRA_VIEWS: ExtraViews = { views: [], publicKeys: [] };

/** The job does not wait for them any longer. */
const TIMEOUT_MS = 5000;

/**
 * Finds out which of the views that a job wants to read besides its own it may read, with the token that it has.
 *
 * Never rejects: what cannot be read is left out.
 */
export async function openExtraViews(
  wanted: readonly string[],
  access: Pick<Access, "server" | "view" | "token">,
  { nix, signal }: { readonly nix: NixFacts; readonly signal: AbortSignal },
): Promise<ExtraViews> {
  const names = [...new Set(wanted)].filter((name) => name !== access.view);
  if (names.length === 0) return NO_EXTRA_VIEWS;
  const given = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
  const opened = await Promise.all(names.map((name) => openView(name, access, nix, given)));
  const views = opened.flatMap((it) => ("address" in it ? [it] : []));
  const refused = opened.flatMap((it) => ("why" in it ? [`${it.name} (${it.why})`] : []));
  return {
    views: views.map(({ address }) => address),
    publicKeys: views.flatMap(({ publicKeys }) => publicKeys),
    ...(refused.length > 0 && {
      warning: {
        code: "extra-caches",
        message: `Of the further caches that the job names, these are not read: ${refused.join(", ")}.`,
      },
    }),
  };
}

type Opened =
  | { readonly address: ViewAddress; readonly publicKeys: readonly string[] }
  | { readonly name: string; readonly why: string };

async function openView(
  name: string,
  { server, token }: Pick<Access, "server" | "token">,
  { storeDir }: NixFacts,
  signal: AbortSignal,
): Promise<Opened> {
  try {
    const config = await readCacheConfig({ server, view: name, token, signal });
    if (config.storeDir !== undefined && config.storeDir !== storeDir) {
      return { name, why: `it is for the store ${config.storeDir}` };
    }
    const { publicKeys, upstream, substituterUrl, api } = describeView(server, name, config);
    return { address: { view: name, kind: upstream, substituterUrl, api }, publicKeys };
  } catch (error) {
    const isRefused = ["UNAUTHENTICATED", "FORBIDDEN", "NOT_FOUND"].some(
      (code) => isCacheError(error) && error.code === code,
    );
    return { name, why: isRefused ? "this job may not read it" : describeError(error) };
  }
}
