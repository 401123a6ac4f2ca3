import { isCacheError } from "@glorious/core";

import type { Answer } from "../../doctor/answer.ts";
import type { HttpSession } from "../../doctor/http-session.ts";
import { attempt, failed, known, type Probe } from "../../doctor/probe.ts";
import { findViewUpstreams } from "../../view-upstreams.ts";
import { readCacheInfo } from "../read-cache-info.ts";
import type { ViewFacts } from "../snapshot.ts";
import { normalizeSubstituter, ownPriority } from "../substituter-url.ts";

/** What {@link gatherView} asks with. */
export interface ViewQuestion {
  /** With a trailing slash. */
  readonly server: string;
  readonly view: string;
  /** To be tried in this order; `undefined` is anonymous. Secret. */
  readonly tokens: ReadonlyArray<string | undefined>;
  readonly timeoutMs: number;
  readonly ca: string | undefined;
  readonly signal: AbortSignal;
}

/** Asks for the view's configuration with each token until one is good. */
export async function gatherView(question: ViewQuestion): Promise<Probe<ViewFacts>> {
  const { server, view, timeoutMs, ca, signal } = question;
  const { createAdminClient, openCache } = await import("@glorious/cache-client");
  let result: Probe<ViewFacts> = failed("there was no token to ask with");
  for (const token of new Set(question.tokens)) {
    try {
      await using cache = await openCache({
        server,
        view,
        token,
        signal,
        retry: { maxAttempts: 1 },
        idleTimeoutMs: timeoutMs,
        ...(ca === undefined ? {} : { tls: { ca } }),
      });
      const tls = ca === undefined ? undefined : { ca };
      await using admin = createAdminClient({
        server,
        token,
        signal,
        tls,
        idleTimeoutMs: timeoutMs,
      });
      const upstreams = cache.kind === "attic" ? undefined : await findViewUpstreams(admin, view);
      return known({ kind: cache.kind, config: cache.config, upstreams });
    } catch (error) {
      result = failed(error instanceof Error ? error.message : String(error));
      const mayHelp = isCacheError(error, "UNAUTHENTICATED") || isCacheError(error, "FORBIDDEN");
      if (!mayHelp) return result;
    }
  }
  return result;
}

/** Nix's own idea of a cache that does not say. */
const DEFAULT_PRIORITY = 50;

/** The priority of each substituter, as Nix sorts them: lower is asked first. */
export async function gatherPriorities(
  substituters: readonly string[],
  own: { readonly substituter: string; readonly cacheInfo: Probe<Answer> },
  session: HttpSession,
): Promise<ReadonlyMap<string, Probe<number>>> {
  const found = substituters.map(async (address) => {
    const fixed = ownPriority(address);
    const name = normalizeSubstituter(address);
    if (fixed !== undefined) return [name, known(fixed)] as const;
    const isOurs = name === normalizeSubstituter(own.substituter);
    const priority = await attempt(async () => {
      if (!isOurs && !/^https?:/.test(name)) throw new Error("it is not asked over HTTP");
      if (isOurs && own.cacheInfo.state !== "known") throw new Error("it did not answer");
      const answer =
        isOurs && own.cacheInfo.state === "known"
          ? own.cacheInfo.value
          : await session.get(`${name}/nix-cache-info`);
      return readCacheInfo(answer).priority ?? DEFAULT_PRIORITY;
    });
    return [name, priority] as const;
  });
  return new Map(await Promise.all(found));
}
