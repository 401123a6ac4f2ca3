import type { BlobStore } from "@glorious/storage";

import type { PathCommitter } from "../commit/path-committer.ts";
import type { CacheIndex, ObjectRecord, PathRecord } from "../index/cache-index.ts";
import { decodeNar } from "../ingest/nar-decoder.ts";
import type { NarIngest } from "../ingest/nar-ingest.ts";
import { objectKey } from "../ingest/object-key.ts";
import type { ViewPolicy } from "../trust/view-policy.ts";
import { type Alike, countTenants, groupAlike } from "./agreement.ts";
import type { CommonsWorld } from "./commons.ts";
import { verifiesItself } from "./self-verifying.ts";

export interface PlaceOptions {
  readonly index: Pick<
    CacheIndex,
    | "addVotes"
    | "deletePath"
    | "findMissingPaths"
    | "findPath"
    | "findTrustedPaths"
    | "findView"
    | "findVotes"
    | "listNewPaths"
    | "listVotes"
  >;
  readonly store: Pick<BlobStore, "get">;
  readonly ingest: Pick<NarIngest, "hold" | "ingest">;
  readonly committer: Pick<PathCommitter, "commit">;
  readonly policy: Pick<ViewPolicy, "version" | "commons">;
  readonly now: () => number;
}

export type Candidate =
  | (Alike & { readonly kind: "chosen"; readonly verifiesItself: boolean })
  /** Not enough tenants yet. */
  | { readonly kind: "none" }
  /** Enough for two that differ. */
  | { readonly kind: "ambiguous" };

/** Of what trusted jobs wrote under one name, what may go into the commons. */
export async function chooseCandidate(
  trusted: readonly PathRecord[],
  { contributors, tenantsNeeded, view }: CommonsWorld,
  options: Pick<PlaceOptions, "store">,
  signal: AbortSignal,
): Promise<Candidate> {
  const groups = groupAlike(trusted);
  for (const { paths } of groups) {
    const offered = paths.find(({ viewId }) => contributors.get(viewId)?.isContentAddressed);
    if (offered === undefined) continue;
    const open = (): AsyncIterable<Buffer> => openNar(offered, options, signal);
    if (await verifiesItself(offered, view.storeDir, open)) {
      return {
        kind: "chosen",
        paths: [offered, ...paths.filter((path) => path !== offered)],
        verifiesItself: true,
      };
    }
  }
  const agreed = groups.filter(
    ({ paths }) =>
      countTenants(
        paths.map(({ viewId }) => viewId),
        contributors,
      ) >= tenantsNeeded,
  );
  const [group, second] = agreed;
  if (second !== undefined) return { kind: "ambiguous" };
  return group === undefined
    ? { kind: "none" }
    : { kind: "chosen", ...group, verifiesItself: false };
}

/**
 * Makes a path visible in the commons, encoded by the server itself and signed with the commons' key alone.
 *
 * @returns `incomplete` while a reference is not there that its builders have in their own views.
 */
export async function placePath(
  { paths, verifiesItself: isSelfVerifying }: Alike & { readonly verifiesItself: boolean },
  { view }: CommonsWorld,
  options: PlaceOptions,
  signal: AbortSignal,
): Promise<"placed" | "incomplete" | "refused"> {
  const { index, committer, now } = options;
  const [path] = paths;
  const requiredReferences = await findRequired(paths, options);
  const missing = await index.findMissingPaths(view.id, requiredReferences);
  if (missing.length > 0) return "incomplete";
  const object = await holdNar(path, view, options, signal);
  const voters = paths.map(({ viewId }) => viewId);
  // Before the path: without them it would be taken back again.
  await index.addVotes(view.id, path.storePathHash, { voters, atMs: now() });
  const same = (key: "deriver" | "system"): string | undefined =>
    paths.every((each) => each[key] === path[key]) ? path[key] : undefined;
  const { storePathHash, storePath, narHash, narSize, references } = path;
  const manifest = {
    storePathHash,
    storePath,
    narHash,
    narSize,
    references,
    deriver: same("deriver"),
    system: same("system"),
    ca: isSelfVerifying ? path.ca : undefined,
    // Tenants' signatures would say who they are.
    signatures: [],
  };
  const result = await committer.commit(view, [{ manifest, object, requiredReferences }], {
    createdBy: "commons",
    presence: [],
  });
  if (result.kind === "incomplete") return "incomplete";
  return result.created.length > 0 ? "placed" : "refused";
}

/** Hashes of the references that the builders have in their own views; the others come from elsewhere. */
export async function findRequired(
  paths: readonly PathRecord[],
  { index }: Pick<PlaceOptions, "index">,
): Promise<string[]> {
  const [path] = paths;
  if (path === undefined) return [];
  const references = path.references
    .map((reference) => reference.slice(0, path.storePathHash.length))
    .filter((hash) => hash !== path.storePathHash);
  const required = new Set<string>();
  for (const { viewId } of paths) {
    const missing = new Set(await index.findMissingPaths(viewId, references));
    for (const hash of references) if (!missing.has(hash)) required.add(hash);
  }
  return [...required];
}

/** Encodes anew: nobody is served what another tenant's client encoded. */
async function holdNar(
  path: PathRecord,
  view: CommonsWorld["view"],
  options: PlaceOptions,
  signal: AbortSignal,
): Promise<ObjectRecord> {
  const { narHash, narSize } = path;
  const held = await options.ingest.hold(view.id, narHash);
  if (held !== undefined) return held;
  const { object } = await options.ingest.ingest({
    viewId: view.id,
    source: openNar(path, options, signal),
    compression: "none",
    expected: { narHash, narSize },
    keepsFile: false,
    level: view.compressionLevel,
    signal,
  });
  return object;
}

async function* openNar(
  { fileHash }: Pick<PathRecord, "fileHash">,
  { store }: Pick<PlaceOptions, "store">,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const blob = await store.get(objectKey(fileHash), { signal });
  // Quarantine will find it; until it is healed the path waits.
  if (blob === undefined) throw new Error(`The object ${fileHash} is not in the store`);
  await using open = blob;
  yield* decodeNar(open.stream(), "zstd", signal);
}
