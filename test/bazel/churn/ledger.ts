/** What clients were told is there, and how long they may count on it. */
export interface Ledger {
  /**
   * Notes an answer that tells of something present.
   *
   * @param askedAtMs When it was asked for.
   */
  promise(name: string, askedAtMs: number): void;
  /** Until when an answer to a question asked now must not say that it is absent; 0 when it may. */
  promisedUntilMs(name: string): number;
  /** What is known of it, for people. */
  describe(name: string, nowMs: number): string;
  /** The server was killed: uses of its last minute may be forgotten. */
  crash(atMs: number): void;
}

/** @param forgottenMs How long before a crash a use has to be for the crash not to forget it. */
export function createLedger(ttlMs: number, forgottenMs: number): Ledger {
  /** The last promise that no crash takes back, and those after it, the oldest first. */
  const promises = new Map<string, { firmMs: number; recentMs: number[] }>();

  let crashedAtMs = -Infinity;

  const settle = (entry: { firmMs: number; recentMs: number[] }, untilMs: number): void => {
    while (entry.recentMs[0] !== undefined && entry.recentMs[0] <= untilMs) {
      entry.firmMs = Math.max(entry.firmMs, entry.recentMs.shift() ?? 0);
    }
  };

  return {
    promise(name, askedAtMs) {
      // An answer from before a crash, that is read after it.
      if (askedAtMs <= crashedAtMs && askedAtMs > crashedAtMs - forgottenMs) return;
      let entry = promises.get(name);
      if (entry === undefined) promises.set(name, (entry = { firmMs: 0, recentMs: [] }));
      settle(entry, askedAtMs - forgottenMs);
      entry.recentMs.push(askedAtMs);
    },
    promisedUntilMs(name) {
      const entry = promises.get(name);
      return entry === undefined ? 0 : Math.max(entry.firmMs, ...entry.recentMs) + ttlMs;
    },
    describe(name, nowMs) {
      const { firmMs = 0, recentMs = [] } = promises.get(name) ?? {};
      const told = [firmMs, ...recentMs].filter((atMs) => atMs > 0);
      const minutesAgo = told.map((atMs) => Math.round((nowMs - atMs) / 60_000));
      return `told of ${minutesAgo.join(", ")} minutes ago, the last crash was ${Math.round((nowMs - crashedAtMs) / 60_000)} ago`;
    },
    crash(atMs) {
      crashedAtMs = atMs;
      for (const entry of promises.values()) {
        settle(entry, atMs - forgottenMs);
        entry.recentMs = [];
      }
    },
  };
}
