import type { LogFields, Logger } from "@glorious/core";
import { destination, pino, stdSerializers } from "pino";

export interface LoggerOptions {
  readonly level: "debug" | "info" | "warn" | "error";
}

/** Structured lines on standard error: one JSON object each, with time, level and message. */
export function createLogger({ level }: LoggerOptions): Logger {
  const lines = pino(
    {
      level,
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      messageKey: "message",
      serializers: { error: stdSerializers.errWithCause },
    },
    // Written at once: a crash must not take the lines that explain it along.
    destination({ dest: 2, sync: true }),
  );
  const write =
    (name: LoggerOptions["level"]) =>
    (message: string, fields: LogFields = {}): void => {
      lines[name](fields, message);
    };
  return { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
}
