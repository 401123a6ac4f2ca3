/** What a client stores for Bazel: its bytes, and where they are asked for below the view. */
export interface BazelEntry {
  readonly kind: "blob" | "action" | "value";
  /** Below the view. */
  readonly path: string;
  readonly bytes: Buffer;
  /** Blobs without which it must not be given. */
  readonly needs: readonly BazelEntry[];
}

interface BazelEvent {
  readonly entry: BazelEntry;
  readonly deed: "put" | "delete";
  readonly isDone: boolean;
}

/** What an entry may be, given what was acknowledged. */
export interface EntryExpectation {
  readonly entry: BazelEntry;
  readonly mayBePresent: boolean;
  readonly mayBeAbsent: boolean;
}

/** What clients stored and deleted for Bazel, and what they were told, in order. */
export class BazelHistory {
  readonly #events: BazelEvent[] = [];
  readonly #onEvent: (eventCount: number) => void;

  /** @param onEvent Told after each event how many there are now; before a begun deed is sent. */
  constructor(onEvent: (eventCount: number) => void = () => {}) {
    this.#onEvent = onEvent;
  }

  /** The same history, going on with another listener. */
  withListener(onEvent: (eventCount: number) => void): BazelHistory {
    const copy = new BazelHistory(onEvent);
    copy.#events.push(...this.#events);
    return copy;
  }

  get eventCount(): number {
    return this.#events.length;
  }

  /** Carries a deed out and records it; one that fails may have been done. */
  async record(
    deed: BazelEvent["deed"],
    entry: BazelEntry,
    work: () => Promise<void>,
  ): Promise<void> {
    this.#add({ deed, entry, isDone: false });
    await work();
    this.#add({ deed, entry, isDone: true });
  }

  /** How many deeds were acknowledged. */
  acknowledged(): number {
    return this.#events.filter(({ isDone }) => isDone).length;
  }

  /** What must be true when only the first `eventCount` events have happened. */
  expect(eventCount: number = this.eventCount): EntryExpectation[] {
    const states = new Map<BazelEntry, EntryExpectation>();
    for (const { entry, deed, isDone } of this.#events.slice(0, eventCount)) {
      const before = states.get(entry) ?? { entry, mayBePresent: false, mayBeAbsent: true };
      const isPut = deed === "put";
      states.set(entry, {
        entry,
        mayBePresent: isDone ? isPut : before.mayBePresent || isPut,
        mayBeAbsent: isDone ? !isPut : before.mayBeAbsent || !isPut,
      });
    }
    return [...states.values()];
  }

  /** Drops what a crash undid, so that the history goes on from what was found after it. */
  settle(eventCount: number, present: ReadonlySet<BazelEntry>): BazelHistory {
    const settled = new BazelHistory();
    for (const { entry } of this.expect(eventCount)) {
      settled.#events.push({ entry, deed: present.has(entry) ? "put" : "delete", isDone: true });
    }
    return settled;
  }

  #add(event: BazelEvent): void {
    this.#events.push(event);
    this.#onEvent(this.#events.length);
  }
}
