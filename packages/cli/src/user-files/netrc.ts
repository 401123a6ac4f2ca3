/** A login as netrc files keep it. */
export interface NetrcEntry {
  /** The host, without a port: netrc knows none. `undefined` is the `default` entry. */
  readonly host: string | undefined;
  readonly password: string | undefined;
  /** The line it starts on, from 1. */
  readonly line: number;
}

/**
 * Reads the entries of a netrc file as curl does, which is who reads it for Nix: words separated by
 * white space, `#` at the start of a line is a comment, `macdef` lasts until an empty line.
 */
export function parseNetrc(text: string): NetrcEntry[] {
  const entries: { host: string | undefined; password: string | undefined; line: number }[] = [];
  let expected: "machine" | "password" | "skip" | undefined;
  let isMacro = false;
  for (const [index, line] of text.split("\n").entries()) {
    if (isMacro) {
      isMacro = line.trim() !== "";
      continue;
    }
    if (line.trimStart().startsWith("#")) continue;
    for (const [raw] of line.matchAll(/"(?:[^"\\]|\\.)*"|[^\s]+/g)) {
      const word = unquote(raw);
      if (expected === "machine") {
        entries.push({ host: word, password: undefined, line: index + 1 });
      } else if (expected === "password") {
        const entry = entries.at(-1);
        if (entry !== undefined) entry.password = word;
      }
      if (expected !== undefined) {
        expected = undefined;
        continue;
      }
      switch (word.toLowerCase()) {
        case "machine":
          expected = "machine";
          break;
        case "default":
          entries.push({ host: undefined, password: undefined, line: index + 1 });
          break;
        case "password":
          expected = "password";
          break;
        case "login":
        case "account":
          expected = "skip";
          break;
        case "macdef":
          isMacro = true;
          break;
        default:
      }
      if (isMacro) break;
    }
  }
  return entries;
}

/** A token for a host. */
export interface HostToken {
  readonly host: string;
  /** Secret. */
  readonly token: string;
}

/** The lines of our block in a netrc file. */
export function formatNetrcBlock(tokens: readonly HostToken[]): string[] {
  return tokens.flatMap(({ host, token }) => [
    `machine ${host}`,
    // The server ignores the name; some readers of netrc files insist on one.
    "login flywheel",
    `password ${token}`,
  ]);
}

/** What {@link formatNetrcBlock} wrote. */
export function parseNetrcBlock(lines: readonly string[]): HostToken[] {
  return parseNetrc(lines.join("\n")).flatMap(({ host, password }) =>
    host === undefined || password === undefined ? [] : [{ host, token: password }],
  );
}

/** The host of an address as curl looks it up in a netrc file: without port and brackets. */
export function netrcHost(url: string): string {
  return new URL(url).hostname.replace(/^\[(.*)\]$/, "$1");
}

function unquote(word: string): string {
  if (!word.startsWith('"')) return word;
  return word.replace(/^"|"$/g, "").replaceAll(/\\(.)/g, "$1");
}
