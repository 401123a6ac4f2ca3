import { onAbort, throwIfCancelled } from "./cancellation.ts";

/** Options of {@link runParallel}. */
export interface RunParallelOptions<T> {
  /** How many run at a time, at least 1. */
  readonly concurrency: number;
  /** The items that must be finished before this one starts; those not in the list are ignored. */
  readonly after?: (item: T) => Iterable<T>;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs `task` for every item, in order of the list as far as `after` allows. The first failure stops
 * the rest: no new task starts, running ones see their signal fire, and once all are quiet that first
 * error is thrown.
 *
 * @throws {CacheError} `CANCELLED` when the caller's signal fires.
 */
export async function runParallel<T>(
  items: readonly T[],
  task: (item: T, signal: AbortSignal) => Promise<void>,
  options: RunParallelOptions<T>,
): Promise<void> {
  throwIfCancelled(options.signal, "The work");
  if (items.length === 0) return;
  const controller = new AbortController();
  using _ = onAbort(options.signal, () => controller.abort(options.signal?.reason));
  const order = createOrder(items, options.after);
  const { promise, resolve } = Promise.withResolvers<void>();
  let running = 0;
  let failure: { readonly error: unknown } | undefined;

  const startNext = (): void => {
    for (
      let free = options.concurrency - running;
      free > 0 && !controller.signal.aborted;
      free -= 1
    ) {
      const item = order.take();
      if (item === undefined) break;
      running += 1;
      void run(item.value);
    }
    if (running === 0) resolve();
  };
  const run = async (item: T): Promise<void> => {
    try {
      await task(item, controller.signal);
      order.finish(item);
    } catch (error) {
      failure ??= { error };
      controller.abort(error);
    }
    running -= 1;
    startNext();
  };

  startNext();
  await promise;
  throwIfCancelled(options.signal, "The work");
  if (failure !== undefined) throw failure.error;
  if (order.unfinished > 0) throw new Error("Items wait for each other in a circle");
}

interface Order<T> {
  take(): { readonly value: T } | undefined;
  finish(item: T): void;
  readonly unfinished: number;
}

function createOrder<T>(
  items: readonly T[],
  after: ((item: T) => Iterable<T>) | undefined,
): Order<T> {
  const known = new Set(items);
  const waitsFor = new Map<T, number>();
  const followers = new Map<T, T[]>();
  for (const item of after === undefined ? [] : items) {
    const needed = new Set(after?.(item));
    needed.delete(item);
    let count = 0;
    for (const other of needed) {
      if (!known.has(other)) continue;
      count += 1;
      const list = followers.get(other);
      if (list === undefined) followers.set(other, [item]);
      else list.push(item);
    }
    if (count > 0) waitsFor.set(item, count);
  }
  const ready = items.filter((item) => !waitsFor.has(item)).map((value) => ({ value }));
  let next = 0;
  let unfinished = items.length;
  return {
    take: () => {
      const first = ready[next];
      if (first !== undefined) next += 1;
      return first;
    },
    finish: (item) => {
      unfinished -= 1;
      for (const follower of followers.get(item) ?? []) {
        const count = (waitsFor.get(follower) ?? 0) - 1;
        waitsFor.set(follower, count);
        if (count === 0) ready.push({ value: follower });
      }
    },
    get unfinished() {
      return unfinished;
    },
  };
}
