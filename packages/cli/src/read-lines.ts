import { createInterface } from "node:readline";

import type { CliContext } from "./cli-context.ts";

/** The lines of standard input that are not empty, without white space around them. */
export async function readLines(context: CliContext): Promise<string[]> {
  const lines: string[] = [];
  const reader = createInterface({ input: context.stdin, crlfDelay: Infinity });
  for await (const line of reader) {
    if (line.trim() !== "") lines.push(line.trim());
  }
  return lines;
}
