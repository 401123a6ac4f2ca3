import type { IgnoresSync } from "./disk/disk-model.ts";
import type { LossKind } from "./disk/losses.ts";
import { type Cut, describeCut, type DiskRecording } from "./power-cut.ts";

/** A flush that must not be missing: a call in the server, or in SQLite on its behalf. */
export interface Flush {
  readonly what: string;
  readonly targets: RegExp;
  /** The first so many flushes of a file are carried out. */
  readonly spares?: number;
}

/** What was found after cuts with all flushes carried out, by their descriptions: asked once for each. */
export type SoundCuts = Map<string, Promise<readonly string[]>>;

/** That somebody noticed a flush that was left out. */
export interface FoundFlush {
  /** What gave it away. */
  readonly clue: string;
  /** For a failed expectation. */
  readonly cut: string;
  /** What is wrong after the same cut when the flush is carried out: nothing, if all is well. */
  readonly foundWithIt: readonly string[];
}

/** The disks that punish a missing flush most. */
const CRUEL_LOSSES: readonly LossKind[] = ["all", "bytes-but-sizes", "bytes", "names"];
const MOMENTS = 8;

/** Cuts the power where a flush that was left out is missed; `undefined` when nobody notices. */
export async function findMissingFlush(options: {
  readonly recording: DiskRecording;
  readonly flush: Flush;
  readonly violationsAfter: (cut: Cut, ignoresSync?: IgnoresSync) => Promise<readonly string[]>;
  readonly soundCuts: SoundCuts;
}): Promise<FoundFlush | undefined> {
  const { recording, violationsAfter, soundCuts } = options;
  const { targets, spares = 0 } = options.flush;
  const ignores: IgnoresSync = (target, earlier) => targets.test(target) && earlier >= spares;
  const promises = recording.operations.flatMap(({ kind }, at) =>
    kind === "mark" ? [at + 1] : [],
  );
  const cuts = promises
    .filter((_, position) => position % Math.ceil(promises.length / MOMENTS) === 0)
    // From the end, where most has been promised.
    .toReversed()
    .flatMap((at) => CRUEL_LOSSES.map((loss) => ({ at, loss })));
  for (const cut of cuts) {
    const violations = await violationsAfter(cut, ignores);
    if (violations.length === 0) continue;
    const key = describeCut(recording, cut);
    const sound = soundCuts.get(key) ?? violationsAfter(cut);
    soundCuts.set(key, sound);
    return { clue: `losing ${cut.loss}: ${violations[0]}`, cut: key, foundWithIt: await sound };
  }
  return undefined;
}
