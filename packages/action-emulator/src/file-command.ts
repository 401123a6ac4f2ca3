import { CacheError } from "@glorious/core";

/** One name and its value, in the order of the file. */
export type FileCommandEntry = readonly [name: string, value: string];

/**
 * Parses what a step wrote to `GITHUB_ENV`, `GITHUB_OUTPUT` or `GITHUB_STATE`: lines `name=value`, and blocks
 * `name<<DELIMITER` up to a line that is the delimiter alone. Empty lines are skipped.
 *
 * @throws {CacheError} `INVALID` where the real runner fails the step: a line of neither form, an empty name, a
 *   block without its end.
 * @see `FileCommandManager.cs` of actions/runner.
 */
export function parseFileCommand(text: string): FileCommandEntry[] {
  const entries: FileCommandEntry[] = [];
  const lines = text.split(/\r\n|\n|\r/);
  for (let index = 0; index < lines.length; index += 1) {
    const line = lines[index] ?? "";
    if (line === "") continue;
    const equals = line.indexOf("=");
    const heredoc = line.indexOf("<<");
    // Whichever comes first says what the line is.
    if (equals >= 0 && (heredoc < 0 || equals < heredoc)) {
      entries.push([requireName(line.slice(0, equals), line), line.slice(equals + 1)]);
      continue;
    }
    if (heredoc < 0) throw new CacheError("INVALID", `Invalid format '${line}'`);
    const name = requireName(line.slice(0, heredoc), line);
    const delimiter = line.slice(heredoc + 2);
    if (delimiter === "") throw new CacheError("INVALID", `Invalid format '${line}'`);
    const end = lines.indexOf(delimiter, index + 1);
    if (end < 0) {
      throw new CacheError("INVALID", `Invalid value. Matching delimiter not found '${delimiter}'`);
    }
    entries.push([name, lines.slice(index + 1, end).join("\n")]);
    index = end;
  }
  return entries;
}

/** Parses what a step wrote to `GITHUB_PATH`: one folder a line. */
export function parsePathFile(text: string): string[] {
  return text.split(/\r\n|\n|\r/).filter((line) => line !== "");
}

function requireName(name: string, line: string): string {
  if (name === "")
    throw new CacheError("INVALID", `Invalid format '${line}'. Name must not be empty`);
  return name;
}
