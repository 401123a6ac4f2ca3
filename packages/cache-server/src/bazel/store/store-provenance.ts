import { setImmediate as nextTurn } from "node:timers/promises";

import { formatHash } from "@glorious/reapi";

import type {
  EntryProvenance,
  RevocationEffect,
  RevocationSelection,
} from "../../index/provenance-index.ts";
import type { EntryName, StoreProvenance, StoreRevocation } from "./bazel-store.ts";
import { wordsOf } from "./packed-digests.ts";
import type { TenantState } from "./tenant-state.ts";

/** A few milliseconds of reading, before others get their turn. */
const ROWS_PER_SLICE = 2000;
const WRITES_PER_SLICE = 100;
const ROWS_PER_STEP = 5000;

type Found =
  | { readonly kind: "action" | "blob"; readonly scopeId: number; readonly hash: Uint8Array }
  | { readonly kind: "value"; readonly scopeId: number; readonly key: string };

/** @param relearn Reads the index into memory anew: something is there again that memory took for absent. */
export function createStoreProvenance(
  state: TenantState,
  relearn: () => void,
): StoreProvenance & { resume(held: readonly StoreRevocation[]): Promise<void> } {
  const { index, writes } = state;
  const { provenance } = index;

  const describe = async (
    writeIds: readonly number[],
    limit: number,
    onFound: (found: Found) => void = () => {},
  ): Promise<RevocationEffect> => {
    let entries = 0;
    const samples: RevocationEffect["samples"][number][] = [];
    for await (const found of eachWritten(state, writeIds)) {
      entries += 1;
      onFound(found);
      if (samples.length >= limit) continue;
      const view = provenance.instanceOf(found.scopeId) ?? "";
      const name = found.kind === "value" ? found.key : formatHash(found.hash);
      samples.push({ view, kind: found.kind, name });
    }
    return { entries, samples, ...provenance.peopleOf(writeIds, limit) };
  };

  const forget = (found: Found): void => {
    if (found.kind === "value") return;
    const table = found.kind === "action" ? state.actions.table : state.blobs;
    const slot = table.find(found.scopeId, wordsOf(found.hash));
    if (slot === 0) return;
    // Somebody may have written it anew since it was found.
    const row =
      found.kind === "action"
        ? index.findAction(found.scopeId, found.hash)
        : index.findBlob(found.scopeId, found.hash);
    if (row === undefined || writes.isRevoked(row.writeId)) table.remove(slot);
  };

  const apply = async (revocation: StoreRevocation): Promise<readonly number[]> => {
    writes.hold(revocation);
    const revoked = await state.write("revokeWrites", revocation);
    writes.revoke(revoked);
    return revoked;
  };

  return {
    async preview(selection: RevocationSelection, limit) {
      await state.tellReads();
      return describe(provenance.selectWrites(selection), limit);
    },

    async revoke(revocation, limit) {
      await state.tellReads();
      using _doubt = state.doubt();
      const revoked = await apply(revocation);
      return await describe(revoked, limit, forget);
    },

    async lift(id, { keepsHidden }) {
      const lifted = keepsHidden ? [] : await state.write("liftWrites", id);
      writes.lift(id, lifted);
      if (lifted.length === 0) return 0;
      state.blobs.isWhole = false;
      state.actions.table.isWhole = false;
      relearn();
      return (await describe(lifted, 0)).entries;
    },

    async find({ kind, key }: EntryName, limit): Promise<EntryProvenance[]> {
      await state.tellReads();
      return provenance.provenanceOf(kind, key, limit);
    },

    async forget(beforeMs) {
      while ((await state.write("forgetProvenance", beforeMs, ROWS_PER_STEP)) > 0) continue;
    },

    /** Before anybody is served: what a server that died had still to apply, and whom to refuse. */
    async resume(held) {
      for (const revocation of held) await apply(revocation);
    },
  };
}

/** Everything that came with these writes, in slices. */
async function* eachWritten(
  { index: { provenance } }: TenantState,
  writeIds: readonly number[],
): AsyncGenerator<Found> {
  if (writeIds.length === 0) return;
  for (let at = 0; at < writeIds.length; at += WRITES_PER_SLICE) {
    const some = writeIds.slice(at, at + WRITES_PER_SLICE);
    for (const { scopeId, hash } of provenance.actionsOf(some)) {
      yield { kind: "action", scopeId, hash };
    }
    await nextTurn();
  }
  const wanted = new Set(writeIds);
  for (let page = provenance.valuesAfter(undefined, ROWS_PER_SLICE); page.length > 0;) {
    for (const { scopeId, key, writeId } of page) {
      if (wanted.has(writeId)) yield { kind: "value", scopeId, key };
    }
    await nextTurn();
    page = provenance.valuesAfter(page.at(-1), ROWS_PER_SLICE);
  }
  for (let page = provenance.blobsAfter(undefined, ROWS_PER_SLICE); page.length > 0;) {
    for (const { scopeId, hash, writeId } of page) {
      if (wanted.has(writeId)) yield { kind: "blob", scopeId, hash };
    }
    await nextTurn();
    page = provenance.blobsAfter(page.at(-1), ROWS_PER_SLICE);
  }
}
