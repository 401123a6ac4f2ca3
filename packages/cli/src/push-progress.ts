import type { PushEvent, PushSummary } from "@glorious/cache-client";
import { formatCount, formatDurationMs, formatSizeBytes } from "@glorious/core";

import { type CliContext, note, warn } from "./cli-context.ts";

/** Shows a push while it runs. */
export interface PushProgress {
  onEvent(event: PushEvent): void;
  /** Takes the bar off the screen. */
  end(): void;
}

/** How a push is shown: on a terminal, in a log, or, when `isQuiet`, hardly at all. */
export function createPushProgress(isQuiet: boolean, context: CliContext): PushProgress {
  if (isQuiet) return createQuietProgress(context);
  const isTerminal = context.stderr.isTTY === true && context.env["CI"] === undefined;
  return isTerminal ? createBarProgress(context) : createLineProgress(context);
}

/** Tells nothing but warnings. */
function createQuietProgress(context: CliContext): PushProgress {
  return {
    onEvent: (event) => {
      if (event.type === "warning") warn(context, event.message);
    },
    end: () => {},
  };
}

/** One line for each thing that happens: for logs. */
function createLineProgress(context: CliContext): PushProgress {
  return {
    onEvent: (event) => {
      const line = describeEvent(event);
      if (event.type === "warning") warn(context, event.message);
      else if (line !== undefined) note(context, line);
    },
    end: () => {},
  };
}

const REDRAW_MS = 100;
const CLEAR_LINE = "\r\u001B[K";

/** A bar that is drawn over and over: for terminals. */
export function createBarProgress(context: CliContext): PushProgress {
  let totalBytes = 0;
  let totalUploads = 0;
  let doneUploads = 0;
  let doneBytes = 0;
  let drawnMs = 0;
  let startedMs = context.nowMs();
  const running = new Map<string, number>();

  const draw = (): void => {
    const nowMs = context.nowMs();
    if (totalUploads === 0 || nowMs - drawnMs < REDRAW_MS) return;
    drawnMs = nowMs;
    const bytes = doneBytes + [...running.values()].reduce((sum, size) => sum + size, 0);
    // A terminal that does not know its size says 0.
    const columns = context.stderr.columns || 80;
    const line = formatBar({
      bytes,
      totalBytes,
      doneUploads,
      totalUploads,
      elapsedMs: nowMs - startedMs,
      columns,
    });
    context.stderr.write(`${CLEAR_LINE}${line}`);
  };
  const clear = (): void => {
    if (drawnMs !== 0) context.stderr.write(CLEAR_LINE);
    drawnMs = 0;
  };

  return {
    onEvent: (event) => {
      switch (event.type) {
        case "planned":
          totalBytes = event.uploadBytes;
          totalUploads = event.uploads;
          startedMs = context.nowMs();
          break;
        case "upload-progress":
          running.set(event.storePath, event.narBytes);
          return draw();
        case "upload-done":
          running.delete(event.storePath);
          doneUploads += 1;
          doneBytes += event.narSize;
          return draw();
        case "upload-started":
          return;
        default:
      }
      const line = describeEvent(event);
      if (line === undefined) return;
      clear();
      if (event.type === "warning") warn(context, event.message);
      else note(context, line);
    },
    end: clear,
  };
}

/** What {@link formatBar} draws. */
export interface BarState {
  readonly bytes: number;
  readonly totalBytes: number;
  readonly doneUploads: number;
  readonly totalUploads: number;
  readonly elapsedMs: number;
  readonly columns: number;
}

/** One line of at most `columns` characters. */
export function formatBar(state: BarState): string {
  // A retry reads a NAR again, so the sum may run ahead of the truth for a moment.
  const share = state.totalBytes === 0 ? 1 : Math.min(1, state.bytes / state.totalBytes);
  const speed = state.elapsedMs < 1000 ? 0 : state.bytes / (state.elapsedMs / 1000);
  const facts = [
    `${Math.floor(share * 100)} %`,
    `${state.doneUploads}/${state.totalUploads} paths`,
    `${formatSizeBytes(state.bytes)} of ${formatSizeBytes(state.totalBytes)}`,
    ...(speed === 0 ? [] : [`${formatSizeBytes(Math.round(speed))}/s`]),
  ].join("  ");
  const width = Math.min(30, state.columns - facts.length - 5);
  if (width < 5) return facts.slice(0, Math.max(0, state.columns - 1));
  const filled = Math.round(share * width);
  return `[${"#".repeat(filled)}${"-".repeat(width - filled)}] ${facts}`;
}

/** What an event says in one line; `undefined` when it is not worth one. */
export function describeEvent(event: PushEvent): string | undefined {
  switch (event.type) {
    case "planned":
      return `${formatCount(event.paths, "path")}: ${event.missing} missing, ${event.alreadyPresent} there already, ${event.skipped} skipped; ${formatCount(event.uploads, "upload")} of ${formatSizeBytes(event.uploadBytes)}`;
    case "skipped":
      return event.reason;
    case "upload-done":
      return `${event.result} ${event.storePath} (${formatSizeBytes(event.narSize)}, ${formatSizeBytes(event.sentBytes)} sent, ${formatDurationMs(event.durationMs)})`;
    case "retry":
      return `trying the ${event.what} again in ${formatDurationMs(event.delayMs)}: ${event.error.message}`;
    case "warning":
      return event.message;
    case "committed":
      return `${formatCount(event.created, "path")} became visible`;
    default:
      return undefined;
  }
}

/** The last line of a push. */
export function describeSummary(summary: PushSummary): string {
  const { uploaded, deduplicated, alreadyPresent, missing } = summary;
  const skipped = summary.skipped.reduce((sum, group) => sum + group.storePaths.length, 0);
  const rest = `${alreadyPresent} there already, ${skipped} skipped`;
  if (summary.dryRun) return `Would push ${formatCount(missing, "path")}; ${rest}.`;
  const sent =
    uploaded === 0
      ? ""
      : ` (${formatSizeBytes(summary.narBytes)}, ${formatSizeBytes(summary.sentBytes)} sent)`;
  const shared = deduplicated === 0 ? "" : `, ${deduplicated} deduplicated`;
  return `Pushed ${formatCount(uploaded, "path")}${sent}${shared} in ${formatDurationMs(summary.durationMs)}; ${rest}.`;
}
