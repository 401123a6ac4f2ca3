import type { PathRecord } from "../index/cache-index.ts";
import { type Contributor, countTenants, groupAlike } from "./agreement.ts";
import type { CommonsWorld } from "./commons.ts";
import { findRequired, type PlaceOptions } from "./place-path.ts";

/** Why a path is in the commons, or is not. */
export interface CommonsExplanation {
  readonly view: string;
  readonly tenantsNeeded: number;
  readonly isHeld: boolean;
  /** Of what is there: what it is by. */
  readonly heldBy: "agreement" | "content" | undefined;
  /** Views that stand to what is there, as far as the caller may know of them. */
  readonly votes: readonly {
    readonly view: string;
    readonly tenant: string | undefined;
    readonly atMs: number;
    readonly isWithdrawn: boolean;
  }[];
  /** What contributors have under that name, written by trusted jobs alone; the same under one NAR hash and references. */
  readonly versions: readonly {
    readonly narHash: string;
    readonly views: readonly string[];
    readonly tenants: number;
    /** References that have to be there first. */
    readonly missingReferences: readonly string[];
  }[];
}

export async function explainPath(
  storePathHash: string,
  { view, tenantsNeeded, contributors, ids }: CommonsWorld,
  options: Pick<PlaceOptions, "index"> & {
    readonly names: (view: string) => boolean;
    readonly signal: AbortSignal;
  },
): Promise<CommonsExplanation> {
  const { index, names } = options;
  const known = (viewId: number): Contributor | undefined => {
    const contributor = contributors.get(viewId);
    return contributor !== undefined && names(contributor.view) ? contributor : undefined;
  };
  const mayRead = view.isPublic || names(view.name);
  const held = mayRead ? await index.findVotes(view.id, storePathHash) : undefined;
  const own = ids.filter((id) => known(id) !== undefined);
  const trusted = await index.findTrustedPaths(own, storePathHash);
  const describe = async ({
    paths,
  }: {
    readonly paths: readonly [PathRecord, ...PathRecord[]];
  }): Promise<CommonsExplanation["versions"][number]> => {
    const viewIds = paths.map(({ viewId }) => viewId);
    const required = await findRequired(paths, options);
    return {
      narHash: paths[0].narHash,
      views: viewIds.map((id) => known(id)?.view ?? ""),
      tenants: countTenants(viewIds, contributors),
      // What the commons lacks tells what it has, which is for its readers.
      missingReferences:
        mayRead && held === undefined ? await index.findMissingPaths(view.id, required) : [],
    };
  };
  return {
    view: view.name,
    tenantsNeeded,
    isHeld: held !== undefined,
    heldBy: held && (held.ca === undefined ? "agreement" : "content"),
    votes: (held?.votes ?? []).flatMap(({ viewId, atMs, state }) => {
      const contributor = known(viewId);
      if (contributor === undefined) return [];
      const { view: name, tenant } = contributor;
      return [{ view: name, tenant, atMs, isWithdrawn: state === "withdrawn" }];
    }),
    versions: await Promise.all(groupAlike(trusted).map(describe)),
  };
}
