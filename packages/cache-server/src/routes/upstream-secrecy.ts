import { CacheError } from "@glorious/core";

import type { ViewRecord } from "../index/cache-index.ts";
import type { UpstreamRecord } from "../index/upstream-index.ts";

/**
 * What is fetched with credentials is for the readers of one view, and of a public one that is everybody.
 *
 * @throws {CacheError} `CONFLICT` when that is so.
 */
export function requirePrivate(
  { name, isPublic }: Pick<ViewRecord, "name" | "isPublic">,
  upstreams: readonly Pick<UpstreamRecord, "name" | "authorization">[],
): void {
  const secret = upstreams.find(({ authorization }) => authorization !== undefined);
  if (!isPublic || secret === undefined) return;
  throw new CacheError(
    "CONFLICT",
    `Everybody may read ${name}, and with it what ${secret.name} gives for its credentials`,
    { hint: "Use a private view for that upstream, or define it without credentials." },
  );
}
