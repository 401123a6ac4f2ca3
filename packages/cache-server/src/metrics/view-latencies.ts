/** Upper bounds of the time that a request took, in seconds. */
const LATENCY_SECONDS_BUCKETS: readonly number[] = [
  0.0001, 0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60,
];

/** How long requests took. Noting one makes no object. */
export class LatencyHistogram {
  count = 0;
  seconds = 0;
  /** Requests that took no longer than the bound of that place, and longer than the one before. */
  readonly buckets: number[] = LATENCY_SECONDS_BUCKETS.map(() => 0);

  observe(durationMs: number): void {
    const seconds = durationMs / 1000;
    this.count += 1;
    this.seconds += seconds;
    for (let at = 0; at < LATENCY_SECONDS_BUCKETS.length; at += 1) {
      if (seconds > (LATENCY_SECONDS_BUCKETS[at] as number)) continue;
      this.buckets[at] = (this.buckets[at] as number) + 1;
      return;
    }
  }

  /** How many took no longer than each bound, the last one without a bound. */
  *cumulated(): Generator<readonly [bound: string, count: number]> {
    let upTo = 0;
    for (const [at, bound] of LATENCY_SECONDS_BUCKETS.entries()) {
      upTo += this.buckets[at] as number;
      yield [String(bound), upTo];
    }
    yield ["+Inf", this.count];
  }
}

/** What was asked of a view in one of its protocols, and what was sent to it. */
export interface ReadsAndWrites {
  readonly read: LatencyHistogram;
  readonly write: LatencyHistogram;
}

/** Of one view, since the server's start. */
export interface ViewLatency {
  readonly nix: ReadsAndWrites;
  readonly bazel: ReadsAndWrites;
}

/** A view takes about a kilobyte. Who has more views loses the figures of those that were asked first. */
const MAX_VIEWS = 5000;

/** How long the requests of each view took, by its name. Names that nobody could make up only. */
export class ViewLatencies {
  readonly #views: Map<string, ViewLatency> = new Map();

  of(view: string): ViewLatency {
    const known = this.#views.get(view);
    if (known !== undefined) return known;
    const [first] = this.#views.keys();
    if (this.#views.size >= MAX_VIEWS && first !== undefined) this.#views.delete(first);
    const latency = { nix: create(), bazel: create() };
    this.#views.set(view, latency);
    return latency;
  }

  find(view: string): ViewLatency | undefined {
    return this.#views.get(view);
  }

  /** Those of which most was asked, the busiest first. */
  busiest(limit: number): (readonly [view: string, latency: ViewLatency])[] {
    return [...this.#views].toSorted(([, a], [, b]) => countOf(b) - countOf(a)).slice(0, limit);
  }
}

/** As the management interface tells it: `atMost` has how many took no longer than so many seconds. */
export interface LatencyFigures {
  readonly count: number;
  readonly seconds: number;
  readonly atMost: Readonly<Record<string, number>>;
}

export function describeLatency({ read, write }: ReadsAndWrites): {
  readonly read: LatencyFigures;
  readonly write: LatencyFigures;
} {
  return { read: describe(read), write: describe(write) };
}

function describe(histogram: LatencyHistogram): LatencyFigures {
  const { count, seconds } = histogram;
  const atMost = Object.fromEntries(
    [...histogram.cumulated()].filter(([bound]) => bound !== "+Inf"),
  );
  return { count, seconds, atMost };
}

function create(): ReadsAndWrites {
  return { read: new LatencyHistogram(), write: new LatencyHistogram() };
}

function countOf({ nix, bazel }: ViewLatency): number {
  return nix.read.count + nix.write.count + bazel.read.count + bazel.write.count;
}
