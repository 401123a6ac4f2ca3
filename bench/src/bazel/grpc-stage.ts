import type { GrpcCase } from "./cases.ts";
import { replay, type ReplayResult } from "./load/replay.ts";
import type { Subject } from "./subjects.ts";

/** What a case came to at each subject, by name; undefined where the subject does not answer it rightly. */
export type CaseResult = ReadonlyMap<string, ReplayResult | undefined>;

/**
 * Plays a case against each subject in turn, round after round, and keeps each one's fastest.
 *
 * @throws {Error} when ours answers wrongly; a peer that does is left out.
 */
export async function playCase(
  grpcCase: GrpcCase,
  subjects: readonly Subject[],
  options: { readonly rounds: number; readonly measureMs: number },
): Promise<CaseResult> {
  const best = new Map<string, ReplayResult | undefined>();
  for (let round = 0; round < options.rounds; round += 1) {
    // Who comes second meets a warmer machine, and what the first still has to do.
    for (const subject of round % 2 === 0 ? subjects : subjects.toReversed()) {
      if (best.has(subject.name) && best.get(subject.name) === undefined) continue;
      const result = await replay(subject.target, {
        protocol: "h2c",
        rings: grpcCase.lay(subject, round),
        depth: grpcCase.depth,
        measureMs: grpcCase.isOnce ? undefined : options.measureMs,
      });
      const before = best.get(subject.name);
      if (result.wrong > 0) {
        if (subject.name === "ours") {
          throw new Error(`${grpcCase.name}: ${result.wrong} wrong answers, ${result.firstWrong}`);
        }
        process.stderr.write(`bench: ${subject.name}, ${grpcCase.name}: ${result.firstWrong}\n`);
        best.set(subject.name, undefined);
      } else if (before === undefined || result.perSecond > before.perSecond) {
        best.set(subject.name, result);
      }
    }
  }
  return best;
}

/** Plays a case against ours alone. @throws {Error} when it answers wrongly. */
export async function playOurs(
  grpcCase: GrpcCase,
  ours: Subject,
  options: Parameters<typeof playCase>[2],
): Promise<ReplayResult> {
  const result = (await playCase(grpcCase, [ours], options)).get(ours.name);
  if (result === undefined) throw new Error(`${grpcCase.name} was not measured`);
  return result;
}
