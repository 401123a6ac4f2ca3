import { CacheError } from "./cache-error.ts";

/** The error for work that its caller gave up: `CANCELLED`, with the signal's reason as cause. */
export function cancelledError(what: string, signal: AbortSignal): CacheError {
  return new CacheError("CANCELLED", `${what} was cancelled`, { cause: signal.reason });
}

/**
 * Iterates `source` and stops as soon as `signal` aborts, even while the source is silent.
 *
 * `what` begins the error's message: "Encoding a NAR" was cancelled.
 *
 * @throws {CacheError} `CANCELLED` on abort; whatever the source throws otherwise.
 */
export async function* abortable<T>(
  source: AsyncIterable<T>,
  what: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<T, void, undefined> {
  if (signal === undefined) {
    yield* source;
    return;
  }
  let rejectWaiting: ((error: CacheError) => void) | undefined;
  const onAbort = (): void => rejectWaiting?.(cancelledError(what, signal));
  signal.addEventListener("abort", onAbort, { once: true });
  const iterator = source[Symbol.asyncIterator]();
  let isDone = false;
  let isWaiting = false;
  try {
    if (signal.aborted) throw cancelledError(what, signal);
    while (true) {
      isWaiting = true;
      // Not a race against one long promise: that would keep every value until the end.
      const { promise, resolve, reject } = Promise.withResolvers<IteratorResult<T>>();
      rejectWaiting = reject;
      iterator.next().then(resolve, reject);
      const result = await promise;
      isWaiting = false;
      if (result.done === true) {
        isDone = true;
        return;
      }
      yield result.value;
      if (signal.aborted) throw cancelledError(what, signal);
    }
  } finally {
    signal.removeEventListener("abort", onAbort);
    if (!isDone) {
      const returned = Promise.resolve(iterator.return?.()).catch(() => {});
      // A silent source answers its return only after its pending next: nobody waits for that.
      if (!isWaiting) await returned;
    }
  }
}
