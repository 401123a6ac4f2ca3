/** Allows each key a burst, and then so many a second. */
export interface RateLimiter {
  /** Whether the key has something left. */
  mayPass(key: string): boolean;
  /** Takes one from the key. */
  charge(key: string): void;
}

export interface RateLimiterOptions {
  readonly burst: number;
  readonly perSecond: number;
  /** Keys that are remembered; beyond that the one charged longest ago starts anew. */
  readonly maxKeys: number;
  readonly now: () => number;
}

/** A token bucket for each key. */
export function createRateLimiter(options: RateLimiterOptions): RateLimiter {
  const { burst, perSecond, maxKeys, now } = options;
  const buckets = new Map<string, { readonly left: number; readonly atMs: number }>();

  const leftOf = (key: string): number => {
    const bucket = buckets.get(key);
    if (bucket === undefined) return burst;
    const gained = (Math.max(0, now() - bucket.atMs) / 1000) * perSecond;
    return Math.min(burst, bucket.left + gained);
  };

  return {
    mayPass: (key) => leftOf(key) >= 1,
    charge(key) {
      const left = Math.max(0, leftOf(key) - 1);
      buckets.delete(key);
      buckets.set(key, { left, atMs: now() });
      if (buckets.size <= maxKeys) return;
      const oldest = buckets.keys().next();
      if (oldest.done !== true) buckets.delete(oldest.value);
    },
  };
}
