import type { ViewUpstreams } from "@glorious/cache-client";

import { openAdminClient } from "../admin-client.ts";
import { printLine } from "../cli-context.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import { formatFacts } from "../format-table.ts";
import { formatMaxSize, formatRetention } from "../retention.ts";
import {
  chooseServer,
  requireView,
  SERVER_ENVIRONMENT,
  SERVER_OPTIONS,
  VIEW_OPTION,
} from "../server-options.ts";
import { describeUpstream, findViewUpstreams } from "../view-upstreams.ts";

export const command: Command = defineCommand({
  name: "view info",
  summary: "Show a view's configuration",
  args: [
    { name: "VIEW", help: "The view; default is --view", isOptional: true, completes: "nothing" },
  ],
  options: { ...SERVER_OPTIONS, ...VIEW_OPTION, json: flag("Print one line of JSON") },
  environment: SERVER_ENVIRONMENT,
  examples: [
    { comment: "Show the view you logged in to", command: "flywheel view info" },
    {
      comment: "Print its public key",
      command: "flywheel view info main --json | jq -r .publicKey",
    },
  ],
  async run({ options, args }, context) {
    const choice = await chooseServer(options, context);
    const view = requireView(args[0] ?? options.view, choice);
    await using admin = await openAdminClient(choice, context);
    const config = await admin.viewConfig(view);
    const reading = await findViewUpstreams(admin, view);
    if (options.json) {
      return printLine(context, JSON.stringify({ view, ...config, ...reading }));
    }
    const upstream = config.upstreamCacheKeyNames ?? [];
    const unknown = "unknown";
    const facts = formatFacts([
      ["view", view],
      [
        "visibility",
        config.isPublic === undefined ? unknown : config.isPublic ? "public" : "private",
      ],
      ["substituter", config.substituterEndpoint ?? unknown],
      ["public key", config.publicKey ?? unknown],
      ["store folder", config.storeDir ?? unknown],
      ["priority", config.priority === undefined ? unknown : String(config.priority)],
      ["upstream keys", upstream.length === 0 ? "none" : upstream.join(", ")],
      ["retention", formatRetention(config.retentionPeriod)],
      ["size limit", formatMaxSize(config.flywheel?.maxSizeBytes)],
      ["compression", describeLevel(config.flywheel?.compressionLevel)],
      ...(reading === undefined ? [] : upstreamFacts(reading)),
    ]);
    for (const line of facts) printLine(context, line);
  },
});

function upstreamFacts(reading: ViewUpstreams): [name: string, value: string][] {
  const { upstreams, signsUpstream, pushesUpstream } = reading;
  if (upstreams.length === 0) return [["upstreams", "none"]];
  return [
    ...upstreams.map((upstream): [string, string] => ["upstream", describeUpstream(upstream)]),
    ["signs upstream", signsUpstream ? "yes" : "no: clients trust the upstreams' keys"],
    ["pushes upstream", pushesUpstream ? "yes" : "no: pushes skip what an upstream has"],
  ];
}

function describeLevel(level: number | undefined): string {
  return level === undefined ? "unknown" : `zstd level ${level}`;
}
