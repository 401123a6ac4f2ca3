import { isCacheError } from "@glorious/core";
import { formatViewName, parseViewName } from "@glorious/trust";

import type { ViewRecord } from "../index/cache-index.ts";
import type { UpstreamRecord } from "../index/upstream-index.ts";

/** A view as readers see it. An overlay that nobody has written to is there for them, and has no id. */
export type ReadView = Omit<ViewRecord, "id"> & { readonly id: number | undefined };

/**
 * The views that a read falls through, in order: an overlay, its base, the shared views behind that. Each of them
 * is one that the caller may pull, and the first that has something answers.
 */
export interface ReadChain {
  /** The view that was asked for. */
  readonly view: ReadView;
  readonly views: readonly ViewRecord[];
  /** Their ids. */
  readonly ids: readonly number[];
  /** The upstreams that these views fall back to, in the order they are preferred in. */
  readonly upstreams: readonly UpstreamRecord[];
  /** Where a read looks: in these views, then in what was fetched from the upstreams. Nobody pushed that. */
  readonly readIds: readonly number[];
  /** The same for chains of the same views alone; for what is remembered. */
  readonly key: string;
  /** Whether everybody may read all of it. */
  readonly isPublic: boolean;
}

export function createReadChain(
  view: ReadView,
  views: readonly ViewRecord[],
  upstreams: readonly UpstreamRecord[],
): ReadChain {
  const ids = views.map(({ id }) => id);
  const readIds = [...ids, ...upstreams.map(({ viewId }) => viewId)];
  return {
    view,
    views,
    ids,
    upstreams,
    readIds,
    // What is added to narinfos of upstreams depends on which of the ids are views.
    key: `${ids.length}:${readIds.join(",")}`,
    isPublic: views.every((each) => each.isPublic),
  };
}

/** The full name of the view that an overlay lies over; `undefined` for any name that is none of an overlay. */
export function baseOfOverlay(viewName: string): string | undefined {
  if (!viewName.includes("_")) return undefined;
  try {
    const { tenant, view, overlay } = parseViewName(viewName);
    return overlay && formatViewName({ tenant, view });
  } catch (error) {
    if (isCacheError(error, "INVALID")) return undefined;
    throw error;
  }
}
