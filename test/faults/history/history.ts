import type { PathInfo } from "@glorious/cache-client";

/** Something a client asked the server to change. */
export type Attempt =
  /** `isAtomic`: the protocol promises all of the paths or none. */
  | { readonly kind: "push"; readonly paths: readonly PathInfo[]; readonly isAtomic: boolean }
  | { readonly kind: "delete"; readonly path: PathInfo }
  | { readonly kind: "revoke"; readonly token: string }
  | { readonly kind: "create-view"; readonly view: string };

interface HistoryEvent {
  readonly attempt: number;
  readonly kind: "begin" | "acknowledge" | "fail";
}

/** What a path may be, given what was acknowledged. */
export interface PathExpectation {
  readonly path: PathInfo;
  readonly mayBePresent: boolean;
  readonly mayBeAbsent: boolean;
}

/** What must be true of a server. */
export interface Expectations {
  readonly paths: readonly PathExpectation[];
  /** Each is visible whole or not at all. */
  readonly groups: ReadonlyArray<readonly PathInfo[]>;
  readonly revokedTokens: readonly string[];
  readonly views: readonly string[];
}

/**
 * What clients tried and what they were told, in order. A failed attempt says nothing: the answer may have got lost
 * after the deed.
 */
export class History {
  readonly #attempts: Attempt[] = [];
  readonly #events: HistoryEvent[] = [];
  readonly #onEvent: (eventCount: number) => void;

  /** @param onEvent Told after each event how many there are now; before a begun attempt is sent. */
  constructor(onEvent: (eventCount: number) => void = () => {}) {
    this.#onEvent = onEvent;
  }

  /** The same history, going on with another listener. */
  withListener(onEvent: (eventCount: number) => void): History {
    const copy = new History(onEvent);
    copy.#attempts.push(...this.#attempts);
    copy.#events.push(...this.#events);
    return copy;
  }

  get eventCount(): number {
    return this.#events.length;
  }

  /** Carries an attempt out and records how it ended. Failures are recorded and thrown. */
  async record<T>(attempt: Attempt, work: () => Promise<T>): Promise<T> {
    const id = this.#attempts.push(attempt) - 1;
    this.#add({ attempt: id, kind: "begin" });
    try {
      const result = await work();
      this.#add({ attempt: id, kind: "acknowledge" });
      return result;
    } catch (error) {
      this.#add({ attempt: id, kind: "fail" });
      throw error;
    }
  }

  #add(event: HistoryEvent): void {
    this.#events.push(event);
    this.#onEvent(this.#events.length);
  }

  /** How many attempts were acknowledged among the first events. */
  acknowledged(eventCount: number = this.eventCount): number {
    return this.#events.slice(0, eventCount).filter(({ kind }) => kind === "acknowledge").length;
  }

  /**
   * Drops what a crash undid, so that the history goes on from what was found after it.
   *
   * @param isPresent Tells of each path whether it was found.
   */
  settle(eventCount: number, isPresent: (storePathHash: string) => boolean): History {
    const settled = new History();
    const { paths, revokedTokens, views } = this.expect(eventCount);
    const note = (attempt: Attempt): void => {
      const id = settled.#attempts.push(attempt) - 1;
      settled.#events.push({ attempt: id, kind: "begin" }, { attempt: id, kind: "acknowledge" });
    };
    for (const { path } of paths) {
      if (isPresent(path.storePath.hash)) note({ kind: "push", paths: [path], isAtomic: false });
      else note({ kind: "delete", path });
    }
    for (const token of revokedTokens) note({ kind: "revoke", token });
    for (const view of views) note({ kind: "create-view", view });
    return settled;
  }

  /** What must be true when only the first `eventCount` events have happened. */
  expect(eventCount: number = this.eventCount): Expectations {
    const ends = new Map<number, HistoryEvent["kind"]>();
    const begun: number[] = [];
    for (const { attempt, kind } of this.#events.slice(0, eventCount)) {
      if (kind === "begin") begun.push(attempt);
      else ends.set(attempt, kind);
    }
    const states = new Map<string, PathState>();
    const owners = new Map<string, Set<number>>();
    const expected = { revokedTokens: [] as string[], views: [] as string[] };
    for (const id of begun) {
      const attempt = this.#attempts[id];
      if (attempt === undefined) continue;
      const isDone = ends.get(id) === "acknowledge";
      switch (attempt.kind) {
        case "push":
          for (const path of attempt.paths) {
            const owning = owners.get(path.storePath.hash) ?? new Set();
            owners.set(path.storePath.hash, owning.add(id));
            change(states, path, true, isDone);
          }
          break;
        case "delete":
          owners.set(attempt.path.storePath.hash, new Set());
          change(states, attempt.path, false, isDone);
          break;
        case "revoke":
          if (isDone) expected.revokedTokens.push(attempt.token);
          break;
        case "create-view":
          if (isDone) expected.views.push(attempt.view);
      }
    }
    const groups = begun.flatMap((id) => {
      const attempt = this.#attempts[id];
      if (attempt?.kind !== "push" || !attempt.isAtomic) return [];
      // Paths that another attempt touched as well say nothing about this one.
      const own = attempt.paths.filter(({ storePath }) => {
        const owning = owners.get(storePath.hash);
        return owning?.size === 1 && owning.has(id);
      });
      return own.length > 1 ? [own] : [];
    });
    return { ...expected, paths: [...states.values()], groups };
  }
}

interface PathState {
  readonly path: PathInfo;
  mayBePresent: boolean;
  mayBeAbsent: boolean;
}

function change(
  states: Map<string, PathState>,
  path: PathInfo,
  isPresent: boolean,
  isDone: boolean,
): void {
  const state = states.get(path.storePath.hash) ?? {
    path,
    mayBePresent: false,
    mayBeAbsent: true,
  };
  states.set(path.storePath.hash, state);
  if (isPresent) {
    state.mayBePresent = true;
    if (isDone) state.mayBeAbsent = false;
  } else {
    state.mayBeAbsent = true;
    if (isDone) state.mayBePresent = false;
  }
}
