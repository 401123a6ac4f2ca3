import {
  CacheError,
  describeError,
  formatDurationMs,
  type LogFields,
  type Logger,
} from "@glorious/core";

import { type CliContext, note } from "./cli-context.ts";

const LEVELS = ["debug", "info", "warn", "error"] as const;
type Level = (typeof LEVELS)[number];

/** A logger for who looks at a terminal, where one in JSON would be for a machine. */
export interface TerminalLogger extends Logger {
  /** From now on lines of every level come; before it only what is wrong, as whoever starts something waits for its end. */
  showAll(): void;
}

/** @param level the least severe lines to show. */
export function createTerminalLogger(level: Level, context: CliContext): TerminalLogger {
  const least = LEVELS.indexOf(level);
  let isStarting = true;
  const write =
    (name: Level) =>
    (message: string, fields: LogFields = {}): void => {
      if (LEVELS.indexOf(name) < least) return;
      if (isStarting && (name === "debug" || name === "info")) return;
      note(context, formatLogLine(name, message, fields, new Date(context.nowMs())));
    };
  return {
    debug: write("debug"),
    info: write("info"),
    warn: write("warn"),
    error: write("error"),
    showAll: () => {
      isStarting = false;
    },
  };
}

/** One line: the time of day, what happened, and its facts. */
export function formatLogLine(
  level: Level,
  message: string,
  fields: LogFields,
  time: Date,
): string {
  const clock = time.toTimeString().slice(0, 8);
  const urgency = level === "warn" ? "warning: " : level === "error" ? "error: " : "";
  const { method, path, status, durationMs } = fields;
  const isRequest = message === "request" && typeof durationMs === "number";
  const words = isRequest
    ? [show(method), show(path), show(status), `(${formatDurationMs(durationMs)})`]
    : [
        `${urgency}${message}`,
        ...Object.entries(fields).map(([name, value]) => `${name}=${show(value)}`),
      ];
  return `${clock}  ${words.join(" ")}`;
}

/** Quoted when it is more than a word: what others sent must not look like a line of ours, or move the cursor. */
function show(value: unknown): string {
  const text =
    typeof value === "string"
      ? value
      : value instanceof CacheError
        ? describeError(value)
        : value instanceof Error
          ? // A mistake of the program: where it was made is what there is to report.
            (value.stack ?? value.message)
          : (JSON.stringify(value) ?? "none");
  if (/^[\w./:+=@%,&~-]+$/.test(text)) return text;
  // eslint-disable-next-line no-control-regex
  return JSON.stringify(text).replaceAll(/[\u007F-\u009F]/g, "?");
}
