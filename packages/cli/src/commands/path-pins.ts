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

export const command: Command = defineCommand({
  name: "path pins",
  summary: "Show what a view keeps for good",
  options: { ...SERVER_OPTIONS, ...VIEW_OPTION, json: flag("Print one line of JSON") },
  environment: SERVER_ENVIRONMENT,
  examples: [{ comment: "List the pins of a view", command: "flywheel path pins --view main" }],
  async run({ options }, context) {
    const choice = await chooseServer(options, context);
    const view = requireView(options.view, choice);
    await using admin = await openAdminClient(choice, context);
    const pins = await admin.listPins(view);
    if (options.json) return printLine(context, JSON.stringify({ pins }));
    if (pins.length === 0) return note(context, `${view} has no pins.`);
    const rows = pins.map(({ name, storePath, createdAt }) => [name, storePath, createdAt]);
    for (const line of formatTable(["PIN", "STORE PATH", "SINCE"], rows)) printLine(context, line);
  },
});
