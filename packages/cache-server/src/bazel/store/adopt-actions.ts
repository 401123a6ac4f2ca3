import { formatHash } from "@glorious/reapi";

import { isEmptyDigest } from "./action-memory.ts";
import type { Actor } from "./actor.ts";
import { keyAt, viewDigests, wordsOf } from "./packed-digests.ts";
import type { WrittenBlob } from "./provenance-reads.ts";
import type { TenantState } from "./tenant-state.ts";
import type { WriteOrigin } from "./write-book.ts";

/** What a push takes over into its view, see `Adoption` of `@glorious/trust`. */
export interface ActionAdoption {
  readonly key: string;
  readonly actor: Actor;
  readonly base: { readonly id: number; readonly name: string };
  /** Full names of the overlays over it, by their ids. */
  readonly overlays: ReadonlyMap<number, string>;
  readonly signal: AbortSignal;
  /** Told of every slice. */
  readonly onAdopted: (overlay: string, actions: number) => void;
}

const ACTIONS_PER_SLICE = 50;

/**
 * Takes over the ActionResults that merge queues' runs wrote with a key, and what they need: not the bytes, which the
 * tenant has already. What the view has stays; what is revoked, or lacks a blob, is left out. Blobs come first, so that
 * what a crash interrupts is found again and nothing is there without what it needs.
 *
 * @throws {CacheError} `FORBIDDEN` when the actor was revoked; `STORAGE_FULL` when the view is full.
 */
export async function adoptActions(state: TenantState, adoption: ActionAdoption): Promise<void> {
  const { provenance } = state.index;
  for (const writeId of provenance.offeredWrites(adoption.key)) {
    const origin = state.writes.adoptionOf(adoption.actor, writeId, state.nowMs());
    const actions = provenance.actionsOf([writeId]);
    for (let from = 0; from < actions.length; from += ACTIONS_PER_SLICE) {
      adoption.signal.throwIfAborted();
      const slice = actions.slice(from, from + ACTIONS_PER_SLICE);
      const adopted = await Promise.all(
        slice.map((action) => adoptAction(state, adoption, { action, origin })),
      );
      for (const overlay of adoption.overlays.values()) {
        const count = adopted.filter((name) => name === overlay).length;
        if (count > 0) adoption.onAdopted(overlay, count);
      }
    }
  }
}

/** @returns The overlay it came from; `undefined` when it stays where it is. */
async function adoptAction(
  state: TenantState,
  { base, overlays }: ActionAdoption,
  { action, origin }: { readonly action: WrittenBlob; readonly origin: WriteOrigin },
): Promise<string | undefined> {
  const scope = state.index.scopes().find(({ id }) => id === action.scopeId);
  const overlay = scope && overlays.get(scope.viewId);
  if (scope === undefined || overlay === undefined) return undefined;
  const words = wordsOf(action.hash);
  const row = state.readAction(scope.id, words);
  if (row === undefined || row.refersTo === null) return undefined;
  using _room = await state.reserve(base.id, row.result.length);
  const scopeId = await state.openScope(base.id, base.name + scope.instance.slice(overlay.length));
  if (state.readAction(scopeId, words) !== undefined) return undefined;

  const accessed = state.period();
  const refersTo = new Uint8Array(row.refersTo);
  const needed = neededBlobs(refersTo);
  const linked = await state.write("linkBlobs", scopeId, scope.id, {
    hashes: needed.hashes,
    sizes: needed.sizes,
    ...{ accessed, origin },
  });
  await state.settle(linked);
  if (!linked.isComplete) return undefined;
  for (const [at, sizeBytes] of needed.sizes.entries()) {
    const key = needed.hashes.slice(32 * at, 32 * (at + 1));
    state.rememberBlob(scopeId, key, { sizeBytes, accessed });
  }
  const stored = { result: new Uint8Array(row.result), refersTo, accessed };
  const hash = new Uint8Array(action.hash);
  const atMs = state.nowMs();
  const change = await state.write("putAction", scopeId, hash, {
    ...{ ...stored, origin, atMs, keepsOther: true },
  });
  if (change.addedBytes !== 0) state.actions.replace(scopeId, wordsOf(hash), 0, stored);
  await state.settle(change);
  return change.addedBytes === 0 ? undefined : overlay;
}

/** Each once, without the empty blob, which is nobody's. */
function neededBlobs(refersTo: Uint8Array): {
  readonly hashes: Uint8Array;
  readonly sizes: Float64Array;
} {
  const digests = viewDigests(refersTo);
  const needed = new Map<string, { readonly key: Uint8Array; readonly sizeBytes: number }>();
  for (let index = 0; index < digests.length; index += 1) {
    const sizeBytes = digests.sizeBytes(index);
    if (isEmptyDigest(digests.words, 8 * index, sizeBytes)) continue;
    const key = keyAt(digests.words, 8 * index);
    needed.set(formatHash(key), { key, sizeBytes });
  }
  const all = [...needed.values()];
  const hashes = new Uint8Array(32 * all.length);
  for (const [at, { key }] of all.entries()) hashes.set(key, 32 * at);
  return { hashes, sizes: Float64Array.from(all, ({ sizeBytes }) => sizeBytes) };
}
