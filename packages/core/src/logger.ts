/** Facts that go with a log line. Never a token, a key or a signed URL. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Where a package reports what it does; the edge decides where lines go. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

const ignore = (): void => {};

/** A logger that drops every line: the default of every `logger` option. */
export const silentLogger: Logger = { debug: ignore, info: ignore, warn: ignore, error: ignore };
