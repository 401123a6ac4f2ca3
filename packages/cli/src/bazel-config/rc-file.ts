import { dirname, isAbsolute, join } from "node:path";

/** An option as an rc file sets it. */
export interface RcOption {
  readonly file: string;
  /** From 1. */
  readonly line: number;
  /** Without dashes, and without the `no` of a switch. */
  readonly name: string;
  /** Of a switch `true` or `false`. */
  readonly value: string;
}

/** What rc files come to. */
export interface RcReading {
  /** The files that were there, in the order in which Bazel reads them. */
  readonly files: readonly string[];
  /** What counts for `bazel build`, the last of a name wins. */
  readonly options: readonly RcOption[];
  /** What Bazel stops at. */
  readonly problem: string | undefined;
}

/** Reads a file; `undefined` when it is not there. */
export type ReadRc = (path: string) => Promise<string | undefined>;

/** Which lines a build heeds, the weakest first. Those for a named `--config` are for whoever names it. */
const COMMANDS: readonly string[] = ["always", "common", "build"];

/** The options with a value of their own word, as far as anybody here asks for them. */
const VALUED: ReadonlySet<string> = new Set([
  "remote_cache",
  "remote_instance_name",
  "credential_helper",
  "remote_timeout",
  "remote_retries",
  "remote_retry_max_delay",
  "remote_header",
  "remote_cache_header",
  "tls_certificate",
  "experimental_circuit_breaker_strategy",
  "experimental_remote_cache_eviction_retries",
]);

const SWITCHES: ReadonlySet<string> = new Set([
  "remote_accept_cached",
  "remote_upload_local_results",
  "remote_local_fallback",
  "remote_cache_compression",
  "experimental_guard_against_concurrent_changes",
]);

/**
 * Reads rc files as Bazel does: in this order, each with what it imports in place of the line that says so. A file that
 * is not there is left out.
 *
 * @see https://bazel.build/run/bazelrc
 */
export async function readRcFiles(
  paths: readonly string[],
  { read, workspace }: { readonly read: ReadRc; readonly workspace: string | undefined },
): Promise<RcReading> {
  const files: string[] = [];
  const found = new Map<string, RcOption[]>(COMMANDS.map((command) => [command, []]));
  let problem: string | undefined;

  const visit = async (file: string, text: string, above: readonly string[]): Promise<void> => {
    files.push(file);
    for (const { line, words } of splitRcFile(text)) {
      const [command = "", ...rest] = words;
      if (command !== "import" && command !== "try-import") {
        found.get(command)?.push(...readOptions(rest, file, line));
        continue;
      }
      const target = resolveImport(rest[0] ?? "", file, workspace);
      const imported = target === undefined ? undefined : await read(target);
      if (target === undefined || imported === undefined) {
        if (command === "import")
          problem ??= `${file} line ${line} imports ${rest[0] ?? "nothing"}`;
      } else if (above.includes(target)) {
        problem ??= `${file} line ${line} imports ${target}, which imports it`;
      } else {
        await visit(target, imported, [...above, target]);
      }
    }
  };
  for (const path of paths) {
    const text = await read(path);
    if (text !== undefined && !files.includes(path)) await visit(path, text, [path]);
  }
  return { files, options: COMMANDS.flatMap((command) => found.get(command) ?? []), problem };
}

/** What is in force of an option. */
export function findOption(options: readonly RcOption[], name: string): RcOption | undefined {
  return options.findLast((option) => option.name === name);
}

/** The options of one file alone, for `bazel build`. */
export function readRcText(text: string, file: string): RcOption[] {
  return splitRcFile(text).flatMap(({ line, words: [command = "", ...rest] }) =>
    COMMANDS.includes(command) ? readOptions(rest, file, line) : [],
  );
}

interface RcLine {
  readonly line: number;
  readonly words: readonly string[];
}

/** The words of each line; a backslash at its end joins it with the next, `#` starts a comment. */
export function splitRcFile(text: string): RcLine[] {
  const lines: RcLine[] = [];
  let start = 1;
  for (const joined of text.replaceAll(/\r\n/g, "\n").split(/(?<!\\)\n/)) {
    const words = splitWords(joined.replaceAll(/\\\n/g, ""));
    if (words.length > 0) lines.push({ line: start, words });
    start += joined.split("\n").length;
  }
  return lines;
}

/** Words between blanks; quotes keep blanks, a backslash keeps what follows it. */
function splitWords(line: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote = "";
  for (let index = 0; index < line.length; index += 1) {
    const character = line.charAt(index);
    if (character === "\\") {
      index += 1;
      word = (word ?? "") + line.charAt(index);
    } else if (quote !== "") {
      if (character === quote) quote = "";
      else word = (word ?? "") + character;
    } else if (character === '"' || character === "'") {
      quote = character;
      word ??= "";
    } else if (/\s/.test(character)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (character === "#" && word === undefined) {
      break;
    } else {
      word = (word ?? "") + character;
    }
  }
  if (word !== undefined) words.push(word);
  return words;
}

function readOptions(words: readonly string[], file: string, line: number): RcOption[] {
  const options: RcOption[] = [];
  for (let index = 0; index < words.length; index += 1) {
    const [, written = "", given] = /^--([a-z0-9_]+)(?:=(.*))?$/s.exec(words[index] ?? "") ?? [];
    const isNegated = written.startsWith("no") && SWITCHES.has(written.slice(2));
    const name = isNegated ? written.slice(2) : written;
    if (VALUED.has(name) && given === undefined) {
      index += 1;
      options.push({ file, line, name, value: words[index] ?? "" });
    } else if (SWITCHES.has(name)) {
      const isOff = isNegated || /^(0|false|no|f|n)$/i.test(given ?? "");
      options.push({ file, line, name, value: String(!isOff) });
    } else if (name !== "") {
      options.push({ file, line, name, value: given ?? "true" });
    }
  }
  return options;
}

function resolveImport(
  target: string,
  file: string,
  workspace: string | undefined,
): string | undefined {
  if (target === "") return undefined;
  if (target.startsWith("%workspace%")) {
    if (workspace === undefined) return undefined;
    return join(workspace, target.slice("%workspace%".length));
  }
  return isAbsolute(target) ? target : join(workspace ?? dirname(file), target);
}
