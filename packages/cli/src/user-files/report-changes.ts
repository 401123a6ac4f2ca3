import type { FileChange } from "@glorious/cache-client";

import { type CliContext, note, printLine } from "../cli-context.ts";
import { abbreviate } from "../user-folders.ts";

/** Shows what would become of files. */
export function showChanges(changes: readonly FileChange[], context: CliContext): void {
  if (changes.length === 0) note(context, "Nothing would change.");
  for (const { path, text, isSecret } of changes) {
    note(context, text === undefined ? `Would remove ${path}` : `Would write ${path}`);
    // What is new in it is a token.
    if (text !== undefined && !isSecret) printLine(context, Buffer.from(text, "latin1").toString());
  }
}

/** Says what became of files. */
export function reportChanges(changes: readonly FileChange[], context: CliContext): void {
  for (const { path, text } of changes) {
    note(context, `${text === undefined ? "Removed" : "Wrote"} ${abbreviate(path, context.env)}.`);
  }
}
