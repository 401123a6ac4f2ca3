import { cancelledError } from "./abortable.ts";

/** A bounded number of bytes that concurrent work shares. */
export interface ByteBudget {
  /**
   * Waits, first come first served, until `sizeBytes` are free. Dispose the answer to give them back.
   * A request for more than the whole budget waits for all of it, so nothing waits for ever.
   *
   * @throws {CacheError} `CANCELLED` when the signal fires first.
   */
  acquire(sizeBytes: number, signal?: AbortSignal): Promise<Disposable>;
  readonly freeBytes: number;
}

interface Waiter {
  readonly sizeBytes: number;
  readonly grant: (lease: Disposable) => void;
}

/** Creates a budget of `totalBytes`. */
export function createByteBudget(totalBytes: number): ByteBudget {
  let freeBytes = totalBytes;
  const waiters: Waiter[] = [];

  const take = (sizeBytes: number): Disposable => {
    freeBytes -= sizeBytes;
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        freeBytes += sizeBytes;
        serve();
      },
    };
  };
  // Only the first in line is looked at: a large request is not starved by small ones.
  const serve = (): void => {
    for (let first = waiters[0]; first !== undefined; first = waiters[0]) {
      if (first.sizeBytes > freeBytes) return;
      waiters.shift();
      first.grant(take(first.sizeBytes));
    }
  };

  return {
    get freeBytes() {
      return freeBytes;
    },
    acquire: async (sizeBytes, signal) => {
      if (signal?.aborted === true) throw cancelledError("Waiting for memory", signal);
      const wanted = Math.min(sizeBytes, totalBytes);
      if (waiters.length === 0 && wanted <= freeBytes) return take(wanted);
      const { promise, resolve, reject } = Promise.withResolvers<Disposable>();
      const waiter: Waiter = { sizeBytes: wanted, grant: resolve };
      waiters.push(waiter);
      const onAbort = (): void => {
        const at = waiters.indexOf(waiter);
        if (at === -1 || signal === undefined) return;
        waiters.splice(at, 1);
        reject(cancelledError("Waiting for memory", signal));
        serve();
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      try {
        return await promise;
      } finally {
        signal?.removeEventListener("abort", onAbort);
      }
    },
  };
}
