import type { AdminClient, ViewUpstream, ViewUpstreams } from "@glorious/cache-client";
import { formatDurationMs, formatSizeBytes, isCacheError } from "@glorious/core";

/** The upstreams of a view; `undefined` from a server that has no such thing. */
export async function findViewUpstreams(
  admin: Pick<AdminClient, "viewUpstreams">,
  view: string,
): Promise<ViewUpstreams | undefined> {
  try {
    return await admin.viewUpstreams(view);
  } catch (error) {
    if (isCacheError(error, "UNSUPPORTED")) return undefined;
    throw error;
  }
}

/** How it goes with an upstream, in a few words. */
export function describeHealth({
  state = "not asked",
  lastFault,
}: Pick<ViewUpstream, "state" | "lastFault">): string {
  if (lastFault === undefined) return state;
  const { reason, secondsAgo } = lastFault;
  return `${state}, last ${reason} ${formatDurationMs(secondsAgo * 1000)} ago`;
}

/** The same with its name and, where that may be known, the space that what was fetched takes. */
export function describeUpstream(upstream: ViewUpstream): string {
  const { name, url, fileBytes, maxSizeBytes } = upstream;
  const space =
    fileBytes === undefined || maxSizeBytes === undefined
      ? ""
      : `, stored ${formatSizeBytes(fileBytes)} of ${formatSizeBytes(maxSizeBytes)}`;
  return `${name} (${url}): ${describeHealth(upstream)}${space}`;
}

/** Upstreams that none of the views they belong to signs for, so that clients have to trust their own keys. */
export function findUnsigned({
  signsUpstream,
  upstreams,
  reads,
  asked,
}: ViewUpstreams): readonly ViewUpstream[] {
  const signed = new Set(reads.flatMap((read) => (read.signsUpstream ? read.upstreams : [])));
  if (signsUpstream) for (const { name } of upstreams) signed.add(name);
  return asked.filter(({ name }) => !signed.has(name));
}

/** The views behind one another in the order of reading, in one line; empty for one that stands alone. */
export function describeReads({ reads }: Pick<ViewUpstreams, "reads">): string {
  if (reads.length < 2) return "";
  return reads
    .map((read) => `${read.view}${read.isCommons ? " (the commons)" : ""}`)
    .join(", then ");
}
