import type { Series } from "./alternate.ts";

/** One line of the table. */
export interface Row {
  readonly group: string;
  readonly what: string;
  /** Ours, with its unit. */
  readonly ours: string;
  /** What it is held against, with its unit. */
  readonly reference: string;
  /** Ours divided by the reference, or the figure that the goal is about. */
  readonly ratio: number | undefined;
  readonly goal?: Goal | undefined;
  /** What the slowest answers have to be, beside the goal. */
  readonly tailGoal?: Goal | undefined;
  /** Peers' ratios to the reference. */
  readonly peers: Readonly<Record<string, number>>;
  /** Every single measurement, by subject. */
  readonly values?: Readonly<Record<string, readonly number[]>>;
}

export interface Goal {
  readonly text: string;
  readonly met: boolean;
}

export function atMost(limit: number, value: number, unit = "×"): Goal {
  return { text: `≤ ${limit}${unit === "×" ? " ×" : ` ${unit}`}`, met: value <= limit };
}

export function atLeast(limit: number, value: number, unit: string): Goal {
  return { text: `≥ ${limit} ${unit}`, met: value >= limit };
}

/** The ratio of two best values, times or rates: above 1 is slower than the reference. */
export function slowness(ours: Series, reference: Series, kind: "time" | "rate"): number {
  return kind === "time" ? ours.best / reference.best : reference.best / ours.best;
}

export function formatTable(rows: readonly Row[], peers: readonly string[]): string {
  const header = ["", "ours", "reference", "ratio", ...peers, "goal"];
  const lines: string[] = [];
  for (const group of new Set(rows.map((row) => row.group))) {
    lines.push("", `### ${group}`, "", toLine(header), toLine(header.map(() => "---")));
    for (const row of rows.filter((each) => each.group === group)) {
      lines.push(
        toLine([
          row.what,
          row.ours,
          row.reference,
          row.ratio === undefined ? "" : row.ratio.toFixed(2),
          ...peers.map((peer) => row.peers[peer]?.toFixed(2) ?? ""),
          [row.goal, row.tailGoal]
            .flatMap((goal) => (goal ? [`${goal.text}: ${goal.met ? "met" : "**missed**"}`] : []))
            .join("; "),
        ]),
      );
    }
  }
  return lines.join("\n");
}

function toLine(cells: readonly string[]): string {
  return `| ${cells.join(" | ")} |`;
}

export function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

export function mibPerSecond(bytesPerSecond: number): string {
  return `${mib(bytesPerSecond)}/s`;
}
