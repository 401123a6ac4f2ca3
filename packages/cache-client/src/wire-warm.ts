import * as v from "valibot";

/** What to fetch from a view's upstreams. */
export interface WarmRequest {
  /** Store path hashes. */
  readonly roots: readonly string[];
  /** Also what the view's own paths refer to and the view has not. */
  readonly fromPush?: boolean;
  /** With what they refer to; default `true`. */
  readonly closure?: boolean;
}

/** What that did, and what it cost. */
export interface WarmReport {
  readonly fetched: number;
  /** There before. */
  readonly already: number;
  /** Hashes of paths that are nowhere. */
  readonly missing: readonly string[];
  readonly failed: readonly { readonly storePathHash: string; readonly reason: string }[];
  /** Of the NARs fetched, uncompressed. */
  readonly bytes: number;
  /** The same as they came. */
  readonly upstreamBytes: number;
}

/** What one request did, and what is left for the next. */
interface WarmAnswer extends WarmReport {
  readonly done: readonly string[];
  readonly rest: readonly string[];
}

export const WarmAnswerSchema: v.GenericSchema<unknown, WarmAnswer> = v.object({
  fetched: v.number(),
  already: v.number(),
  missing: v.array(v.string()),
  failed: v.array(v.object({ storePathHash: v.string(), reason: v.string() })),
  bytes: v.number(),
  upstreamBytes: v.number(),
  done: v.array(v.string()),
  rest: v.array(v.string()),
});

/** The most that the server takes in one request. */
const MAX_KNOWN = 50_000;
const MAX_ROOTS = 20_000;

/**
 * Asks until nothing is left.
 *
 * @param ask sends one request; the server answers each within seconds.
 * @param onProgress told after each answer.
 */
export async function warmAll(
  request: WarmRequest,
  ask: (body: object) => Promise<WarmAnswer>,
  onProgress: (report: WarmReport) => void,
): Promise<WarmReport> {
  let report: WarmReport = {
    fetched: 0,
    already: 0,
    missing: [],
    failed: [],
    bytes: 0,
    upstreamBytes: 0,
  };
  const known: string[] = [];
  let left: readonly string[] = request.roots;
  for (let isFirst = true; isFirst || left.length > 0; isFirst = false) {
    const answer = await ask({
      roots: left.slice(0, MAX_ROOTS),
      known: known.slice(-MAX_KNOWN),
      closure: request.closure ?? true,
      fromPush: isFirst && request.fromPush === true,
    });
    known.push(...answer.done);
    left = [...answer.rest, ...left.slice(MAX_ROOTS)];
    report = {
      fetched: report.fetched + answer.fetched,
      already: report.already + answer.already,
      missing: [...report.missing, ...answer.missing],
      failed: [...report.failed, ...answer.failed],
      bytes: report.bytes + answer.bytes,
      upstreamBytes: report.upstreamBytes + answer.upstreamBytes,
    };
    onProgress(report);
  }
  return report;
}
