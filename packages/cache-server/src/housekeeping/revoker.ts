import type { BazelPlane } from "../bazel/bazel-plane.ts";
import type { CacheIndex } from "../index/cache-index.ts";
import { formatPrincipalFacts } from "../index/principal-text.ts";
import type {
  PrincipalFacts,
  RevocationEffect,
  RevocationSelection,
} from "../index/provenance-index.ts";
import type { ReadRecorder } from "./read-recorder.ts";

/** Undoes what somebody wrote, whatever the protocol. */
export interface Revoker {
  /** What a revocation would do. */
  preview(selection: RevocationSelection): Promise<RevocationEffect>;
  /**
   * Refuses whom the selection names, then hides what they wrote. Who stops in the middle has refused them already; the
   * rest is done by the next start of the server, before it serves anything of it.
   */
  revoke(
    selection: RevocationSelection,
    createdBy: string | undefined,
  ): Promise<RevocationEffect & { readonly id: number }>;
  /** Does the rest of what a server that died had begun; before anybody is served. */
  resume(): Promise<void>;
  /** `undefined` when no such revocation holds. */
  lift(
    id: number,
    options: { readonly keepsHidden: boolean },
  ): Promise<{ readonly restored: number } | undefined>;
}

export interface RevokerOptions {
  readonly index: Pick<
    CacheIndex,
    | "finishRevocation"
    | "hideRevoked"
    | "liftRevocation"
    | "listRevocations"
    | "previewRevocation"
    | "revoke"
  >;
  readonly bazel: Pick<BazelPlane, "forEachStore"> | undefined;
  readonly reads: Pick<ReadRecorder, "flush">;
  readonly now: () => number;
  /** Of each kind of what is listed. */
  readonly limit: number;
  /** Told when something was hidden, or is there again; awaited. */
  readonly onChange: () => Promise<void>;
}

const MAX_REVOCATIONS = 1_000_000;

export function createRevoker(options: RevokerOptions): Revoker {
  const { index, bazel, reads, now, limit, onChange } = options;
  const finish = async (
    revocation: RevocationSelection & { readonly id: number; readonly createdAtMs: number },
    ofNix: RevocationEffect,
  ): Promise<RevocationEffect> => {
    const effects = [ofNix];
    await bazel?.forEachStore(async ({ provenance }) => {
      effects.push(await provenance.revoke(revocation, limit));
    });
    const effect = mergeEffects(effects, limit);
    await onChange();
    await index.finishRevocation(revocation.id, { atMs: now(), entries: effect.entries });
    return effect;
  };

  return {
    async preview(selection) {
      // Who read it a moment ago is to be named as well.
      await reads.flush();
      const effects = [await index.previewRevocation(selection, limit)];
      await bazel?.forEachStore(async ({ provenance }) => {
        effects.push(await provenance.preview(selection, limit));
      });
      return mergeEffects(effects, limit);
    },

    async revoke(selection, createdBy) {
      await reads.flush();
      const atMs = now();
      const { id, ...effect } = await index.revoke(selection, { atMs, createdBy }, limit);
      return { id, ...(await finish({ ...selection, id, createdAtMs: atMs }, effect)) };
    },

    async resume() {
      const all = await index.listRevocations(MAX_REVOCATIONS);
      for (const revocation of all) {
        const { id, finishedAtMs, liftedAtMs } = revocation;
        if (finishedAtMs !== undefined || liftedAtMs !== undefined) continue;
        const entries = await index.hideRevoked(id);
        await finish(revocation, { entries, samples: [], writers: [], consumers: [] });
      }
    },

    async lift(id, { keepsHidden }) {
      const all = await index.listRevocations(MAX_REVOCATIONS);
      const held = all.find((each) => each.id === id);
      if (held === undefined || held.liftedAtMs !== undefined) return undefined;
      // First what can be done again: the index then says that it is done.
      let restored = 0;
      await bazel?.forEachStore(async ({ provenance }) => {
        restored += await provenance.lift(id, { keepsHidden });
      });
      const lifted = await index.liftRevocation(id, { atMs: now(), keepsHidden });
      await onChange();
      return lifted && { restored: restored + lifted.restored };
    },
  };
}

/** Tells tokens apart, whatever client brings them. */
function whoIs(facts: PrincipalFacts): string {
  return formatPrincipalFacts({ ...facts, client: undefined });
}

function mergeEffects(effects: readonly RevocationEffect[], limit: number): RevocationEffect {
  const writers = new Map<string, RevocationEffect["writers"][number]>();
  const consumers = new Map<string, RevocationEffect["consumers"][number]>();
  for (const effect of effects) {
    for (const writer of effect.writers) writers.set(whoIs(writer), writer);
    for (const consumer of effect.consumers) {
      const known = consumers.get(whoIs(consumer));
      consumers.set(whoIs(consumer), {
        ...(known === undefined || known.lastAtMs < consumer.lastAtMs ? consumer : known),
        entries: consumer.entries + (known?.entries ?? 0),
      });
    }
  }
  // A job may write with one client and read with another.
  for (const writer of writers.keys()) consumers.delete(writer);
  return {
    entries: effects.reduce((sum, { entries }) => sum + entries, 0),
    samples: effects.flatMap(({ samples }) => samples).slice(0, limit),
    writers: [...writers.values()].slice(0, limit),
    consumers: [...consumers.values()]
      .toSorted((one, other) => other.lastAtMs - one.lastAtMs)
      .slice(0, limit),
  };
}
