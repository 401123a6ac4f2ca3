import { CacheError } from "@glorious/core";

/** Throws `CANCELLED` when the caller's signal has fired; its reason is kept as the cause. */
export function throwIfCancelled(signal: AbortSignal | undefined, what: string): void {
  if (signal?.aborted === true) throw cancelled(signal, what);
}

/** The error that answers a caller who changed their mind. */
export function cancelled(signal: AbortSignal, what: string): CacheError {
  return signal.reason instanceof CacheError
    ? signal.reason
    : new CacheError("CANCELLED", `${what} was cancelled`, { cause: signal.reason });
}

/**
 * Calls `listener` when the signal fires, at once when it already has. The disposable takes the
 * listener off again, so a long-lived signal does not collect one per request.
 */
export function onAbort(signal: AbortSignal | undefined, listener: () => void): Disposable {
  if (signal === undefined) return { [Symbol.dispose]: () => {} };
  if (signal.aborted) listener();
  else signal.addEventListener("abort", listener, { once: true });
  return { [Symbol.dispose]: () => signal.removeEventListener("abort", listener) };
}
