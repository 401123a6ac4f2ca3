/** Why the Nix face answered that a path is not there. Only the first says something about the cache's content. */
export type NixMissReason =
  | "absent"
  | "not-reached"
  | "breaker-open"
  | "timeout"
  | "refused"
  | "error";

/** What came from one view. */
export interface ViewFigures {
  readonly hits: number;
  readonly bytes: number;
}

/** What the Nix face did. */
export interface NixFigures {
  /** NARs that went to Nix whole. */
  readonly hits: number;
  readonly misses: Readonly<Record<NixMissReason, number>>;
  /** Bytes of NARs, as they went to Nix. */
  readonly bytes: number;
  /** The same by the view that had them. */
  readonly views: Readonly<Record<string, ViewFigures>>;
  /** narinfos answered with content, from memory or not. */
  readonly narinfos: number;
  /** NARs read ahead, and those of them nobody asked for. */
  readonly prefetched: number;
  readonly prefetchedUnused: number;
  readonly savedMsEstimate: number;
}

/** What the Bazel face did. */
export interface BazelFigures {
  readonly actionHits: number;
  readonly actionMisses: number;
  /** Answers given in the upstream's place. */
  readonly degradedAnswers: number;
  /** ActionResults that went nowhere, because the upstream did not take them. */
  readonly droppedResults: number;
  readonly bytesDown: number;
  readonly bytesUp: number;
  readonly savedMsEstimate: number;
}

/** What became of the store paths that this job built. */
export interface UploadFigures {
  readonly queued: number;
  readonly pushed: number;
  readonly bytes: number;
  /** Left out: by the filter, or because an upstream signed them. */
  readonly skipped: number;
  readonly failed: number;
  /** Still waiting. */
  readonly left: number;
}

/** How often an upstream was given up for a while. */
export interface BreakerFigures {
  readonly face: string;
  readonly opened: number;
  /** How long it was not asked, all in all, the present time included. */
  readonly openMs: number;
}

/** What a job's agent can do for it. */
export type SessionStatus =
  | "ready"
  | "read-only"
  /** The server has not answered yet; the agent goes on asking. */
  | "pending"
  | "degraded"
  | "disabled";

/** What an agent did for its job, as `summary.json` has it. */
export interface AgentSummary {
  readonly status: SessionStatus;
  /** Absent where the face did not run. */
  readonly nix?: NixFigures;
  readonly bazel?: BazelFigures;
  readonly uploads?: UploadFigures;
  readonly breakers: readonly BreakerFigures[];
  /** ISO 8601. */
  readonly startedAt: string;
  readonly durationMs: number;
  /** Sentences for people, each once. */
  readonly warnings: readonly string[];
}

type Counters<Figures> = { -readonly [Name in keyof Figures]: Figures[Name] };

/** Counters that the parts of an agent add to. */
export interface Statistics {
  status: SessionStatus;
  readonly nix: {
    /** A NAR of that view went to Nix. */
    hit(bytes: number, view: string): void;
    miss(reason: NixMissReason): void;
    narinfo(): void;
    prefetched(nars: number): void;
    prefetchedUnused(nars: number): void;
    /** A guess at the time that the job would have waited without the agent. */
    saved(ms: number): void;
  };
  readonly bazel: {
    actionHit(): void;
    actionMiss(): void;
    degradedAnswer(): void;
    droppedResult(): void;
    down(bytes: number): void;
    up(bytes: number): void;
    saved(ms: number): void;
  };
  /** The uploads' figures as they are now. */
  uploads(figures: UploadFigures): void;
  /** The breaker of a face opened or closed again. */
  breaker(face: string, state: "open" | "closed"): void;
  /** Something the job's people should know. */
  warn(sentence: string): void;
  snapshot(): AgentSummary;
}

/** Options of {@link createStatistics}. */
export interface StatisticsOptions {
  /** Milliseconds that only ever grow; default the machine's own clock. */
  readonly nowMs?: () => number;
  readonly startedAt?: Date;
  /** Called after each change, often. */
  readonly onChange?: () => void;
  /** What an agent before this one counted for the same job: faces that do not run any more keep their figures. */
  readonly previous?: AgentSummary | undefined;
}

/** No job has more to say than this. */
const MAX_WARNINGS = 50;

/** Counters at zero. A figure's group appears in the summary with its first count. */
export function createStatistics(options: StatisticsOptions = {}): Statistics {
  const { nowMs = () => performance.now(), onChange = () => {}, previous } = options;
  const startedAt = options.startedAt ?? new Date();
  const startedMs = nowMs() - (previous === undefined ? 0 : Date.now() - startedAt.getTime());
  const warnings = new Set<string>(previous?.warnings);
  const breakers = new Map<string, { opened: number; openMs: number; openedAtMs?: number }>();
  let status: SessionStatus = "ready";
  const nix = zeroNix();
  const bazel: Counters<BazelFigures> = zeroBazel();
  let uploads: UploadFigures | undefined;
  const used = { nix: false, bazel: false };
  const count = (group: keyof typeof used, add: () => void): void => {
    used[group] = true;
    add();
    onChange();
  };
  return {
    get status() {
      return status;
    },
    set status(next) {
      status = next;
      onChange();
    },
    nix: {
      hit: (bytes, view) =>
        count("nix", () => {
          nix.hits += 1;
          nix.bytes += bytes;
          const before = nix.views[view] ?? { hits: 0, bytes: 0 };
          nix.views[view] = { hits: before.hits + 1, bytes: before.bytes + bytes };
        }),
      miss: (reason) => count("nix", () => (nix.misses[reason] += 1)),
      narinfo: () => count("nix", () => (nix.narinfos += 1)),
      prefetched: (nars) => count("nix", () => (nix.prefetched += nars)),
      prefetchedUnused: (nars) => count("nix", () => (nix.prefetchedUnused += nars)),
      saved: (ms) => count("nix", () => (nix.savedMsEstimate += ms)),
    },
    bazel: {
      actionHit: () => count("bazel", () => (bazel.actionHits += 1)),
      actionMiss: () => count("bazel", () => (bazel.actionMisses += 1)),
      degradedAnswer: () => count("bazel", () => (bazel.degradedAnswers += 1)),
      droppedResult: () => count("bazel", () => (bazel.droppedResults += 1)),
      down: (bytes) => count("bazel", () => (bazel.bytesDown += bytes)),
      up: (bytes) => count("bazel", () => (bazel.bytesUp += bytes)),
      saved: (ms) => count("bazel", () => (bazel.savedMsEstimate += ms)),
    },
    uploads(figures) {
      uploads = figures;
      onChange();
    },
    breaker(face, state) {
      const known = breakers.get(face) ?? { opened: 0, openMs: 0 };
      breakers.set(face, known);
      if (state === "open" && known.openedAtMs === undefined) {
        known.opened += 1;
        known.openedAtMs = nowMs();
      } else if (state === "closed" && known.openedAtMs !== undefined) {
        known.openMs += nowMs() - known.openedAtMs;
        delete known.openedAtMs;
      }
      onChange();
    },
    warn(sentence) {
      if (warnings.has(sentence) || warnings.size >= MAX_WARNINGS) return;
      warnings.add(sentence);
      onChange();
    },
    snapshot: () => ({
      ...previous,
      status,
      ...(used.nix && { nix: { ...nix, misses: { ...nix.misses }, views: { ...nix.views } } }),
      ...(used.bazel && { bazel: { ...bazel } }),
      ...(uploads !== undefined && { uploads: { ...uploads } }),
      breakers: [
        ...(previous?.breakers ?? []),
        ...[...breakers].map(([face, { opened, openMs, openedAtMs = nowMs() }]) => ({
          face,
          opened,
          openMs: Math.round(openMs + nowMs() - openedAtMs),
        })),
      ],
      startedAt: startedAt.toISOString(),
      durationMs: Math.round(nowMs() - startedMs),
      warnings: [...warnings],
    }),
  };
}

interface NixCounters extends Counters<Omit<NixFigures, "misses" | "views">> {
  readonly misses: Record<NixMissReason, number>;
  readonly views: Record<string, ViewFigures>;
}

function zeroNix(): NixCounters {
  const misses = {
    ...{ absent: 0, "not-reached": 0, "breaker-open": 0 },
    ...{ timeout: 0, refused: 0, error: 0 },
  };
  return {
    hits: 0,
    misses,
    bytes: 0,
    views: {},
    narinfos: 0,
    prefetched: 0,
    prefetchedUnused: 0,
    savedMsEstimate: 0,
  };
}

function zeroBazel(): Counters<BazelFigures> {
  return {
    actionHits: 0,
    actionMisses: 0,
    degradedAnswers: 0,
    droppedResults: 0,
    bytesDown: 0,
    bytesUp: 0,
    savedMsEstimate: 0,
  };
}
