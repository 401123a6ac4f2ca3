/** A microsecond count is put into one of these: 10 µs wide, up to two seconds. */
const BUCKET_US = 10;
const BUCKETS = 200_000;

/** Counts answers and how long they took. */
export class Recorder {
  readonly #buckets = new Uint32Array(BUCKETS);
  answers = 0;
  /** Answers of the wrong length, with the wrong status, or refused. */
  wrong = 0;
  bodyBytes = 0;
  /** What the first wrong answer was. */
  firstWrong: string | undefined;

  add(milliseconds: number, bodyBytes: number): void {
    this.answers += 1;
    this.bodyBytes += bodyBytes;
    const bucket = Math.min(BUCKETS - 1, (milliseconds * (1000 / BUCKET_US)) | 0);
    this.#buckets[bucket] = (this.#buckets[bucket] ?? 0) + 1;
  }

  addWrong(what: string): void {
    this.wrong += 1;
    this.firstWrong ??= what;
  }

  reset(): void {
    this.#buckets.fill(0);
    this.answers = 0;
    this.bodyBytes = 0;
  }

  /** @returns milliseconds below which this share of the answers came */
  quantile(share: number): number {
    const wanted = Math.max(1, Math.ceil(this.answers * share));
    let seen = 0;
    for (let bucket = 0; bucket < BUCKETS; bucket += 1) {
      seen += this.#buckets[bucket] ?? 0;
      if (seen >= wanted) return ((bucket + 1) * BUCKET_US) / 1000;
    }
    return (BUCKETS * BUCKET_US) / 1000;
  }
}
