import type { Collection } from "@glorious/cache-client";
import { formatDurationMs, formatSizeBytes } from "@glorious/core";

import { openAdminClient } from "../admin-client.ts";
import { note, printLine } from "../cli-context.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import { formatTable } from "../format-table.ts";
import {
  chooseServer,
  requireView,
  SERVER_ENVIRONMENT,
  SERVER_OPTIONS,
  VIEW_OPTION,
} from "../server-options.ts";
import { UsageError } from "../usage-error.ts";

/** A million paths take minutes, and the answer comes when all is done. */
const TIMEOUT_MS = 6 * 3600 * 1000;

export const command: Command = defineCommand({
  name: "gc",
  summary: "Delete what a view need not keep",
  description: `Paths that nobody used for as long as the view's retention says, and beyond its size limit those that were
unused longest; closures as a whole, pins never. The server does the same by itself from time to time. Needs the delete
and the configure retention permission, --all an administrator's token.`,
  args: [
    { name: "VIEW", help: "The view; default is --view", isOptional: true, completes: "nothing" },
  ],
  options: {
    ...SERVER_OPTIONS,
    ...VIEW_OPTION,
    all: flag("Collect every view of the server"),
    dryRun: flag("Say what would go, and delete nothing"),
    json: flag("Print one line of JSON"),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    { comment: "See what would go", command: "flywheel gc main --dry-run" },
    { comment: "Let it go now", command: "flywheel gc main" },
  ],
  async run({ options, args }, context) {
    const { all, dryRun } = options;
    if (all && args.length > 0) throw new UsageError("VIEW and --all exclude each other");
    const choice = await chooseServer(options, context);
    const view = all ? undefined : requireView(args[0] ?? options.view, choice);
    await using admin = await openAdminClient(choice, context, TIMEOUT_MS);
    const views =
      view === undefined
        ? await admin.collectAll({ dryRun })
        : [await admin.collectView(view, { dryRun })];
    if (options.json) return printLine(context, JSON.stringify({ dryRun, views }));
    const rows = views.map(toRow);
    const header = [
      "VIEW",
      "EXAMINED",
      "PINS",
      dryRun ? "TO DELETE" : "DELETED",
      "SPARED",
      dryRun ? "TO FREE" : "FREED",
      "REMAINING",
      "TIME",
    ];
    for (const line of formatTable(header, rows)) printLine(context, line);
    if (view !== undefined && views[0]?.examined === 0) {
      note(context, `${view} is within its limits, or has none: see \`flywheel view info\`.`);
    }
  },
});

function toRow(report: Collection): string[] {
  return [
    report.view,
    String(report.examined),
    String(report.roots),
    String(report.deleted),
    String(report.spared),
    formatSizeBytes(report.freedBytes),
    formatSizeBytes(report.remainingBytes),
    formatDurationMs(report.durationMs),
  ];
}
