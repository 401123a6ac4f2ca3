import { readFile } from "node:fs/promises";

import { writeState } from "../session/session-state.ts";
import type { AgentSummary, Statistics } from "../statistics.ts";

/** Writes a session's summary now and then. */
export interface SummaryWriter {
  /** Something has changed. */
  schedule(): void;
  /** Writes it now, for the last time. */
  flush(): Promise<void>;
}

const DELAY_MS = 500;

/** Creates the writer of a summary file. A summary that cannot be written is nobody's trouble. */
export function createSummaryWriter(file: string, statistics: Statistics): SummaryWriter {
  let timer: NodeJS.Timeout | undefined;
  let writing = Promise.resolve();
  const write = (): Promise<void> => {
    writing = writing.then(() => writeState(file, statistics.snapshot()).catch(() => {}));
    return writing;
  };
  return {
    schedule() {
      timer ??= setTimeout(() => {
        timer = undefined;
        void write();
      }, DELAY_MS);
    },
    flush() {
      clearTimeout(timer);
      return write();
    },
  };
}

/** The summary that an agent left; `undefined` when there is none that can be read. */
export async function readSummary(file: string): Promise<AgentSummary | undefined> {
  try {
    return JSON.parse(await readFile(file, "utf8")) as AgentSummary;
  } catch {
    return undefined;
  }
}
