import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { cacheDirectory, describeMachine } from "../machine.ts";
import { formatTable, mib, type Row } from "../report.ts";
import type { ReplayResult } from "./load/replay.ts";
import type { Scale } from "./population.ts";
import type { Subject } from "./subjects.ts";

export interface ReportOptions {
  readonly jsonFile: string | undefined;
  /** Whether every stage ran at full size. */
  readonly isFull: boolean;
}

const REPORT = fileURLToPath(new URL("../../../docs/benchmarks.md", import.meta.url));

type Rate = Pick<ReplayResult, "perSecond" | "p50Ms" | "p99Ms">;

export function formatRate({ perSecond, p50Ms, p99Ms }: Rate): string {
  return `${Math.round(perSecond)}/s (p50 ${p50Ms.toFixed(2)}, p99 ${p99Ms.toFixed(2)})`;
}

export function formatVolume(
  bytesPerCall: number | undefined,
  { perSecond }: Pick<ReplayResult, "perSecond">,
): string {
  return bytesPerCall === undefined || bytesPerCall < 2 ** 20
    ? ""
    : `, ${mib(perSecond * bytesPerCall)}/s`;
}

export function formatIndex({ smallBlobs, blobs4KiB }: Scale): string {
  return (smallBlobs + blobs4KiB).toLocaleString("en");
}

/** Prints the tables, keeps the figures, and after a full run writes the section of docs/benchmarks.md. */
export async function report(
  options: ReportOptions,
  rows: readonly Row[],
  facts: { scale: Scale; rounds: number; casd: string | undefined; peers: readonly Subject[] },
): Promise<void> {
  const { scale, rounds, casd } = facts;
  const machine = describeMachine();
  const further = facts.peers.map(({ name }) => name).filter((name) => name !== "casd");
  const absentPeer =
    further.length === 0 ? " Not run, as no endpoint was given: bazel-remote." : "";
  const reference =
    casd === undefined
      ? "No reference was run."
      : `Reference: buildbox-casd ${casd} with the same contents, which knows no tokens and no tenants. The ratio is ours to the reference: faster is above 1.`;
  const text = `Measured on ${machine}. The index: ${formatIndex(scale)} blobs of two tenants, ${scale.blobs4KiB.toLocaleString("en")} of them of 4 KiB, and ${scale.actions.toLocaleString("en")} action keys of which 30 % have no result. Each tenant's token is used in every other call; 5 % of the calls that look up write something new; small reads and look-ups miss in 30 %. ${reference} Each figure is the best of ${rounds}, taken in turn; clients and servers share the cores.${absentPeer}`;
  process.stdout.write(`${text}\n${formatTable(rows, further)}\n`);
  await mkdir(path.join(cacheDirectory(), "bench"), { recursive: true });
  const jsonFile = options.jsonFile ?? path.join(cacheDirectory(), "bench", "last-bazel.json");
  const figures = { machine, rounds, scale, casd, rows };
  await writeFile(jsonFile, `${JSON.stringify(figures, undefined, 2)}\n`);
  if (options.isFull) await writeSection(`${text}\n${formatTable(rows, further)}`);
}

/** What people write about the figures; a run leaves it as it is. */
const READING = "### Reading the Bazel figures";
const SECTION = "## The Bazel cache";

async function writeSection(text: string): Promise<void> {
  const before = await readFile(REPORT, "utf8");
  const start = before.indexOf(SECTION);
  const reading = before.indexOf(READING);
  const kept = reading === -1 ? `${READING}\n` : before.slice(reading);
  const above = start === -1 ? before : before.slice(0, start);
  await writeFile(
    REPORT,
    `${above.trimEnd()}\n\n${SECTION}\n\nWritten by \`pnpm bench bazel\` down to "${READING.slice(4)}".\n\n${text}\n\n${kept}`,
  );
}
