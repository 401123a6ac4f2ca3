import type { Logger } from "@glorious/core";

/** Writes each line as JSON, with the time and who says it. */
export function createAgentLogger(write: (line: string) => void, who: string): Logger {
  const log =
    (level: string): Logger["info"] =>
    (message, fields) =>
      write(
        `${JSON.stringify({ time: new Date().toISOString(), level, who, message, ...fields })}\n`,
      );
  return { debug: () => {}, info: log("info"), warn: log("warn"), error: log("error") };
}
