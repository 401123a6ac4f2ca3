import { openAdminClient } from "../admin-client.ts";
import { note, printLine } from "../cli-context.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import { formatTable } from "../format-table.ts";
import { formatMaxSize, formatRetention } from "../retention.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";

export const command: Command = defineCommand({
  name: "view list",
  summary: "List the views your token may see",
  options: { ...SERVER_OPTIONS, json: flag("Print one line of JSON") },
  environment: SERVER_ENVIRONMENT,
  examples: [
    { comment: "See what there is", command: "flywheel view list" },
    { comment: "Names only", command: "flywheel view list --json | jq -r '.views[].name'" },
  ],
  async run({ options }, context) {
    await using admin = await openAdminClient(await chooseServer(options, context), context);
    const views = await admin.listViews();
    if (options.json) return printLine(context, JSON.stringify({ views }));
    if (views.length === 0) return note(context, "There is no view that you may see.");
    const rows = views.map((view) => [
      view.name,
      view.isPublic ? "public" : "private",
      String(view.priority),
      formatRetention(
        view.retentionSeconds === undefined ? "global" : { seconds: view.retentionSeconds },
      ),
      formatMaxSize(view.maxSizeBytes),
      view.createdAt ?? "unknown",
    ]);
    const header = ["VIEW", "VISIBILITY", "PRIORITY", "RETENTION", "SIZE LIMIT", "CREATED"];
    for (const line of formatTable(header, rows)) printLine(context, line);
  },
});
