import type { Random } from "../random.ts";

/** Something that takes bytes from strangers. */
export interface FuzzTarget {
  readonly name: string;
  /** One line: what is tried and what must hold. */
  readonly summary: string;
  /** Real inputs to start from. */
  readonly seeds: () => Promise<readonly Buffer[]>;
  /** Words of the format, for the mutator to strew in. */
  readonly dictionary: readonly (string | Buffer)[];
  readonly maxBytes: number;
  /** Sources whose coverage guides the search, as a pattern of their paths. */
  readonly guides: RegExp;
  /** Makes a well-formed input; half of the fresh ones come from here. */
  readonly generate?: (random: Random) => Buffer | Promise<Buffer>;
  /** Programs of others do the work, whose slowness is no finding. */
  readonly isForeign?: boolean;
  /** Inputs at the same time; 1 by default, and then coverage guides the search. */
  readonly concurrency?: number;
  /** Takes what it needs, or says why it cannot run on this machine. */
  readonly open: () => Promise<OpenTarget | { readonly missing: string }>;
}

/** A target with what it needs. */
export interface OpenTarget extends AsyncDisposable {
  /**
   * Tries one input.
   *
   * @returns A word for the kind of outcome, to be counted: `accepted`, `CORRUPT`.
   * @throws whatever is a finding.
   */
  run(input: Buffer): string | Promise<string>;
}

/** A broken rule; its message names the rule without the input, so that equal findings look equal. */
export class Finding extends Error {
  override readonly name = "Finding";
}

/** For targets that need nothing. */
export function openPlain(run: OpenTarget["run"]): FuzzTarget["open"] {
  return async () => ({ run, [Symbol.asyncDispose]: async () => {} });
}
