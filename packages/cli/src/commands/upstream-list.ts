import type { Upstream } from "@glorious/cache-client";
import { formatSizeBytes } from "@glorious/core";

import { openAdminClient } from "../admin-client.ts";
import { note, printLine } from "../cli-context.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import { formatTable } from "../format-table.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";
import { describeHealth } from "../view-upstreams.ts";

export const command: Command = defineCommand({
  name: "upstream list",
  summary: "List the caches that views may fall back to",
  description:
    "With who has them, how it goes with them, and the space that what was fetched takes. Needs an administrator's token.",
  options: { ...SERVER_OPTIONS, json: flag("Print one line of JSON") },
  environment: SERVER_ENVIRONMENT,
  examples: [
    { comment: "See what there is", command: "flywheel upstream list" },
    {
      comment: "Those that nobody has",
      command:
        "flywheel upstream list --json | jq -r '.upstreams[] | select(.views == []) | .name'",
    },
  ],
  async run({ options }, context) {
    await using admin = await openAdminClient(await chooseServer(options, context), context);
    const upstreams = await admin.listUpstreams();
    if (options.json) return printLine(context, JSON.stringify({ upstreams }));
    if (upstreams.length === 0) return note(context, "There is no upstream.");
    const header = ["UPSTREAM", "URL", "PRIORITY", "VIEWS", "STORED", "LIMIT", "STATE"];
    for (const line of formatTable(header, upstreams.map(toRow))) printLine(context, line);
  },
});

function toRow(upstream: Upstream): string[] {
  return [
    upstream.name,
    upstream.url,
    String(upstream.priority),
    upstream.views.length === 0 ? "none" : upstream.views.join(","),
    formatSizeBytes(upstream.fileBytes),
    formatSizeBytes(upstream.maxSizeBytes),
    describeHealth(upstream),
  ];
}
