import { CacheError } from "@glorious/core";

import type { RevocationSelection } from "../../index/provenance-index.ts";
import type { Actor } from "./actor.ts";

/** How long what one actor writes counts as one write; what a revocation selects by time is as exact as that. */
export const WRITE_MS = 60_000;
/** Of actors whose write is remembered; beyond that those who write on begin another. */
const MAX_CURRENT = 10_000;

/** What an entry is written with, as the index is told. */
export interface WriteOrigin {
  /** 0: by nobody in particular. */
  readonly id: number;
  /** What the index does not know of the write yet. */
  readonly announced:
    | {
        readonly facts: string;
        readonly principal: string;
        readonly run: string | undefined;
        readonly jti: string | undefined;
        readonly offers: string | undefined;
        readonly startedMs: number;
        /** The write of what is taken over. */
        readonly adopts?: number;
      }
    | undefined;
}

/** A revocation that holds until it is taken back. */
export interface HeldRevocation extends RevocationSelection {
  readonly id: number;
}

interface CurrentWrite {
  readonly id: number;
  readonly startedMs: number;
  isKnown: boolean;
}

const NOBODY: WriteOrigin = { id: 0, announced: undefined };

/** Gives writes their numbers, and knows which of them are revoked. The one process that writes the index has it. */
export class WriteBook {
  #nextId: number;
  readonly #current: Map<string, CurrentWrite> = new Map();
  readonly #revoked: Set<number>;
  readonly #held: Map<number, HeldRevocation> = new Map();

  /** @param known The highest number there is, and the numbers of those that are revoked. */
  constructor(known: { readonly lastId: number; readonly revoked: readonly number[] }) {
    this.#nextId = known.lastId + 1;
    this.#revoked = new Set(known.revoked);
  }

  /** Whether nothing is revoked, so that no entry need be asked about. */
  get isClean(): boolean {
    return this.#revoked.size === 0;
  }

  isRevoked(writeId: number): boolean {
    return this.#revoked.size > 0 && this.#revoked.has(writeId);
  }

  /**
   * What the actor writes with now.
   *
   * @throws {CacheError} `FORBIDDEN` when what it writes was revoked meanwhile: an upload may have been under way.
   */
  originOf(actor: Actor | undefined, nowMs: number): WriteOrigin {
    if (actor === undefined) return NOBODY;
    this.#requireAccepted(actor);
    const { facts, principal, run, jti, offers } = actor;
    let write = this.#current.get(facts);
    if (write === undefined || write.startedMs + WRITE_MS <= nowMs || nowMs < write.startedMs) {
      if (this.#current.size >= MAX_CURRENT) this.#current.clear();
      write = { id: this.#nextId, startedMs: nowMs, isKnown: false };
      this.#nextId += 1;
      this.#current.set(facts, write);
    }
    const { id, startedMs, isKnown } = write;
    return {
      id,
      announced: isKnown ? undefined : { facts, principal, run, jti, offers, startedMs },
    };
  }

  /**
   * What the actor takes over with that was written with another write.
   *
   * @throws {CacheError} `FORBIDDEN` as `originOf`.
   */
  adoptionOf(actor: Actor, adopts: number, startedMs: number): WriteOrigin {
    this.#requireAccepted(actor);
    const { facts, principal, run, jti, offers } = actor;
    const id = this.#nextId;
    this.#nextId += 1;
    return { id, announced: { facts, principal, run, jti, offers, startedMs, adopts } };
  }

  /** The index has it. @throws {CacheError} `FORBIDDEN` when it was revoked on its way there. */
  settle(actor: Actor | undefined, { id }: WriteOrigin): void {
    if (actor === undefined) return;
    const write = this.#current.get(actor.facts);
    if (write?.id === id) write.isKnown = true;
    if (this.isRevoked(id)) throw revokedMeanwhile();
  }

  /** Refuses from now on whom a revocation names. What anybody writes from now on is another write. */
  hold(revocation: HeldRevocation): void {
    this.#held.set(revocation.id, revocation);
    this.#current.clear();
  }

  revoke(writeIds: readonly number[]): void {
    for (const id of writeIds) this.#revoked.add(id);
  }

  /** Takes a revocation back, for these writes too. */
  lift(id: number, writeIds: readonly number[]): void {
    this.#held.delete(id);
    for (const each of writeIds) this.#revoked.delete(each);
  }

  #requireAccepted(actor: Actor): void {
    for (const held of this.#held.values()) {
      if ((held.principal ?? held.run ?? held.jti) === undefined) continue;
      if (held.principal !== undefined && held.principal !== actor.principal) continue;
      if (held.run !== undefined && held.run !== actor.run) continue;
      if (held.jti !== undefined && held.jti !== actor.jti) continue;
      throw revokedMeanwhile();
    }
  }
}

function revokedMeanwhile(): CacheError {
  return new CacheError("FORBIDDEN", "What this job writes was revoked meanwhile", {
    hint: "An operator takes that back with `flywheel unquarantine`.",
  });
}
