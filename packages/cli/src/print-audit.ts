import type { EntryAudit } from "@glorious/cache-client";

import { type CliContext, note, printLine } from "./cli-context.ts";
import { PRINCIPAL_HEADER, principalCells } from "./format-principal.ts";
import { formatTable } from "./format-table.ts";

/** Prints who wrote and read something, as a table or as one line of JSON. */
export function printAudit(audit: EntryAudit, isJson: boolean, context: CliContext): void {
  if (isJson) return printLine(context, JSON.stringify(audit));
  const rows = audit.views.flatMap(({ view, state, writers, readers }) => [
    ...writers.map(({ at, adoptedFrom, ...facts }) => {
      const what = adoptedFrom === undefined ? "wrote" : `wrote in ${adoptedFrom}`;
      return [view, state, what, at, ...principalCells(facts)];
    }),
    ...readers.map(({ lastAt, ...facts }) => [
      view,
      state,
      "read",
      lastAt,
      ...principalCells(facts),
    ]),
  ]);
  for (const line of formatTable(["VIEW", "STATE", "DID", "AT", ...PRINCIPAL_HEADER], rows)) {
    printLine(context, line);
  }
  if (rows.length === 0) note(context, "It is there; who wrote it was not recorded.");
}
