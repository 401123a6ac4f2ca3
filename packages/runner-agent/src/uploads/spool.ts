import { appendFile, open } from "node:fs/promises";

import { parseStorePath } from "@glorious/nix-store";

/** What became of a path, as the journal has it. */
export type Settlement = "pushed" | "skipped" | "gone" | "refused";

const LETTERS: Readonly<Record<Settlement, string>> = {
  pushed: "P",
  skipped: "S",
  gone: "G",
  refused: "R",
};
const LETTER_LINE = /^[PSGR] (\S+)$/;

/**
 * The store paths of a queue's text, each once, in order. A last line without its end is not there yet, and what is no
 * store path never will be.
 */
export function parseQueue(text: string): string[] {
  const words = completeLines(text).flatMap((line) => line.split(" "));
  return [...new Set(words.filter(isStorePath))];
}

/** The paths that a journal's text calls done. A torn line counts for nothing. */
export function parseJournal(text: string): Set<string> {
  const paths = completeLines(text).map((line) => LETTER_LINE.exec(line)?.[1]);
  return new Set(paths.filter((path) => path !== undefined));
}

function completeLines(text: string): string[] {
  return text.split("\n").slice(0, -1);
}

function isStorePath(word: string): boolean {
  const slash = word.lastIndexOf("/");
  try {
    parseStorePath(word, word.slice(0, Math.max(0, slash)));
    return slash > 0;
  } catch {
    return false;
  }
}

/**
 * The paths that wait for their upload, on disk: whoever appends to the queue need not know who reads it, and a reader
 * that is killed leaves everything to the next. A path may be pushed twice for that, and none is forgotten.
 */
export interface Spool {
  /** Paths that came since the last call and are not done. */
  readNew(): Promise<readonly string[]>;
  /** These paths need not be looked at again, not even by the next reader. */
  settle(paths: readonly string[], how: Settlement): Promise<void>;
}

/** Opens the two files, which need not exist; what is in them counts as new. */
export async function openSpool(files: {
  readonly queueFile: string;
  readonly journalFile: string;
}): Promise<Spool> {
  const journal = await readFrom(files.journalFile, 0);
  const done = parseJournal(journal);
  // Somebody was killed in the middle of a line: the next one must not become part of it.
  if (journal !== "" && !journal.endsWith("\n")) await appendFile(files.journalFile, "\n");
  let offset = 0;
  let rest = "";
  return {
    async readNew() {
      const text = await readFrom(files.queueFile, offset);
      offset += Buffer.byteLength(text, "latin1");
      const end = text.lastIndexOf("\n") + 1;
      const complete = rest + text.slice(0, end);
      rest = end === 0 ? rest + text : text.slice(end);
      if (end === 0) return [];
      const paths = parseQueue(complete).filter((path) => !done.has(path));
      for (const path of paths) done.add(path);
      return paths;
    },
    async settle(paths, how) {
      if (paths.length === 0) return;
      await appendFile(
        files.journalFile,
        paths.map((path) => `${LETTERS[how]} ${path}\n`).join(""),
      );
    },
  };
}

/** The bytes from an offset on, one a character: store paths are ASCII. */
async function readFrom(file: string, offset: number): Promise<string> {
  let handle;
  try {
    handle = await open(file, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw error;
  }
  try {
    const { size } = await handle.stat();
    if (size <= offset) return "";
    const bytes = Buffer.alloc(size - offset);
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, offset);
    return bytes.toString("latin1", 0, bytesRead);
  } finally {
    await handle.close();
  }
}

/** Adds paths to a queue, as the hook does: in one write, after all that is there. */
export async function appendToQueue(queueFile: string, paths: readonly string[]): Promise<void> {
  const good = paths.filter(isStorePath);
  if (good.length > 0) await appendFile(queueFile, `${good.join(" ")}\n`);
}
