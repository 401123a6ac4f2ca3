import type { TransferEvent, TransferSummary } from "@glorious/cache-client";
import {
  CacheError,
  describeError,
  formatCount,
  formatDurationMs,
  formatSizeBytes,
} from "@glorious/core";

import { type CliContext, note, printLine, warn } from "../cli-context.ts";
import { createPushProgress } from "../push-progress.ts";

/** Shows an import or export while it runs: one line for each path that fails, whatever else is shown. */
export function createTransferProgress(
  isQuiet: boolean,
  context: CliContext,
): { readonly onEvent: (event: TransferEvent) => void; readonly end: () => void } {
  const progress = createPushProgress(isQuiet, context);
  return {
    onEvent: (event) => {
      if (event.type !== "failed") return progress.onEvent(event);
      progress.end();
      const about = event.error.message.includes(event.path) ? "" : `${event.path}: `;
      warn(context, `${about}${describeError(event.error)}`);
    },
    end: () => progress.end(),
  };
}

/** What a transfer was, for its last line. */
export interface TransferWords {
  /** Such as `Imported` and `to main`. */
  readonly done: string;
  readonly where: string;
  readonly isDryRun?: boolean | undefined;
}

/** Prints a summary, as words or as JSON with `facts` before it. */
export function printTransfer(
  summary: TransferSummary,
  words: TransferWords,
  facts: Readonly<Record<string, unknown>>,
  isJson: boolean,
  context: CliContext,
): void {
  if (isJson) {
    printLine(context, JSON.stringify({ ...facts, ...summary }));
    return;
  }
  const { added, alreadyPresent, failed, elsewhere, narBytes, fileBytes, durationMs } = summary;
  const bytes =
    added === 0 || words.isDryRun === true
      ? ""
      : ` (${formatSizeBytes(narBytes)}, ${formatSizeBytes(fileBytes)} compressed)`;
  const isOthers = elsewhere === 0 ? "" : `, ${elsewhere} of another cache`;
  note(
    context,
    `${words.done} ${formatCount(added, "path")}${bytes} ${words.where} in ${formatDurationMs(durationMs)}; ` +
      `${alreadyPresent} there already, ${failed} failed${isOthers}.`,
  );
}

/** @throws {CacheError} when anything failed: a script should notice. */
export function requireNoFailures(failed: number, what: string): void {
  if (failed === 0) return;
  throw new CacheError(
    "CORRUPT",
    `${formatCount(failed, "path")} could not be ${what}; the lines above say why`,
    { hint: "Put right what they name and run the same command again: what is there is skipped." },
  );
}
