import type { PathRecord } from "../index/cache-index.ts";
import type { CommonsVote } from "../index/commons-index.ts";

/** What the operator's policy says of the commons, with the views that take part. */
export interface CommonsPolicy {
  /** Full name of the view that it is. */
  readonly view: string;
  /** How many tenants must have built a path alike. */
  readonly tenants: number;
  readonly contributors: readonly Contributor[];
}

export interface Contributor {
  /** Full name. */
  readonly view: string;
  readonly tenant: string | undefined;
  /** Who speaks there: the tenant's parent where it has one, since whoever has that has all below it. */
  readonly voice: string;
  /** Whether what verifies itself may go there at once. */
  readonly isContentAddressed: boolean;
}

/** The contributors that exist, by the ids of their views. */
export type Contributors = ReadonlyMap<number, Contributor>;

/** Paths of one name that say the same: content, size and references. */
export interface Alike {
  readonly paths: readonly [PathRecord, ...PathRecord[]];
}

/** Puts paths of one name together that say the same; signatures and derivers are their builders' own affair. */
export function groupAlike(paths: readonly PathRecord[]): Alike[] {
  const groups = new Map<string, [PathRecord, ...PathRecord[]]>();
  for (const path of paths) {
    const key = contentKey(path);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [path]);
    else group.push(path);
  }
  return [...groups.values()].map((group) => ({ paths: group }));
}

/** Whether two paths say the same. */
export function isAlike(one: PathRecord, other: PathRecord): boolean {
  return contentKey(one) === contentKey(other);
}

/** References are sorted wherever they come in. */
function contentKey({ storePath, narHash, narSize, references }: PathRecord): string {
  return [storePath, narHash, narSize, ...references].join("\n");
}

/** How many tenants stand behind some views: two views of one tenant are one voice, and so are tenants of one parent. */
export function countTenants(viewIds: readonly number[], contributors: Contributors): number {
  const voices = new Set<string>();
  for (const viewId of viewIds) {
    const contributor = contributors.get(viewId);
    if (contributor !== undefined) voices.add(contributor.voice);
  }
  return voices.size;
}

/** Whether a path may stay: by those who still stand to it, or as one that verifies itself. */
export function mayStay(
  path: { readonly ca: string | undefined; readonly votes: readonly CommonsVote[] },
  contributors: Contributors,
  tenantsNeeded: number,
): boolean {
  const voters = path.votes
    .filter(({ viewId, state }) => state === "holds" && contributors.has(viewId))
    .map(({ viewId }) => viewId);
  if (countTenants(voters, contributors) >= tenantsNeeded) return true;
  const offers = voters.some((viewId) => contributors.get(viewId)?.isContentAddressed === true);
  return path.ca !== undefined && offers;
}
