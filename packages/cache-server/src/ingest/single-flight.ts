/**
 * Lets one of several callers with the same key do the work while the others wait for it, up to a bound.
 *
 * A follower whose leader succeeded gets `done`; one whose leader failed, or took longer than `maxWaitMs`, gets a
 * turn of its own. So nobody waits for ever on somebody else's slow connection.
 */
export interface SingleFlight {
  /** Throws the signal's reason when it aborts before the turn. */
  enter(key: string, maxWaitMs: number, signal?: AbortSignal): Promise<Turn>;
}

/** `lead` does the work and must say how it ended; `done` means that another caller just did it. */
export type Turn =
  | { readonly kind: "lead"; readonly finish: (succeeded: boolean) => void }
  | { readonly kind: "done" };

export function createSingleFlight(): SingleFlight {
  const running = new Map<string, Promise<boolean>>();

  const lead = (key: string): Turn => {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    running.set(key, promise);
    return {
      kind: "lead",
      finish(succeeded) {
        if (running.get(key) === promise) running.delete(key);
        resolve(succeeded);
      },
    };
  };

  return {
    async enter(key, maxWaitMs, signal) {
      const deadline = AbortSignal.timeout(maxWaitMs);
      const waiting = signal === undefined ? deadline : AbortSignal.any([deadline, signal]);
      const tooLate = new Promise<"late">((resolve) => {
        waiting.addEventListener("abort", () => resolve("late"), { once: true });
      });
      for (;;) {
        signal?.throwIfAborted();
        const leader = running.get(key);
        if (leader === undefined) return lead(key);
        const outcome = await Promise.race([leader, tooLate]);
        signal?.throwIfAborted();
        if (outcome === true) return { kind: "done" };
        // The slow leader goes on; this caller takes the key over for those that come later.
        if (outcome === "late") return lead(key);
      }
    },
  };
}
