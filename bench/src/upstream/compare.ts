import type { Series } from "../alternate.ts";
import { atMost, type Goal, type Row } from "../report.ts";

/** What a row is about. */
export interface Subject {
  readonly group: string;
  readonly what: string;
}

/** Ours may take so many times what the reference takes. Without a goal it is only said. */
export function compare(subject: Subject, ours: Series, reference: Series, most?: number): Row {
  const ratio = ours.best / reference.best;
  return row(subject, ours, reference, most === undefined ? undefined : atMost(most, ratio));
}

/** Ours is to be so many times faster. */
export function faster(subject: Subject, ours: Series, reference: Series, times: number): Row {
  const measured = reference.best / ours.best;
  const goal = { text: `≥ ${times} × faster (${measured.toFixed(1)} ×)`, met: measured >= times };
  return row(subject, ours, reference, goal);
}

function row(subject: Subject, ours: Series, reference: Series, goal: Goal | undefined): Row {
  return {
    ...subject,
    ours: ours.best.toFixed(2),
    reference: reference.best.toFixed(2),
    ratio: ours.best / reference.best,
    ...(goal === undefined ? {} : { goal }),
    peers: {},
    values: { ours: ours.values, reference: reference.values },
  };
}
