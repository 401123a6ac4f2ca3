import type { ViewUpstream, ViewUpstreams } from "@glorious/cache-client";

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
import {
  describeReads,
  describeUpstream,
  findUnsigned,
  findViewUpstreams,
} from "../view-upstreams.ts";

type Fact = [name: string, value: string];

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
    const skipped = config.upstreamCacheKeyNames ?? [];
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
      [
        "pushes skip",
        skipped.length === 0 ? "no signature" : `signatures of ${skipped.join(", ")}`,
      ],
      ["retention", formatRetention(config.retentionPeriod)],
      ["size limit", formatMaxSize(config.flywheel?.maxSizeBytes)],
      ["compression", describeLevel(config.flywheel?.compressionLevel)],
      ...(reading === undefined ? [] : readingFacts(reading, view)),
    ]);
    for (const line of facts) printLine(context, line);
  },
});

function readingFacts(reading: ViewUpstreams, view: string): Fact[] {
  const { reads, asked, pushesUpstream } = reading;
  const ownerOf = ({ name }: ViewUpstream): string => {
    const owners = reads.filter(({ upstreams }) => upstreams.includes(name));
    const others = owners.every((owner) => owner.view !== view);
    return others && owners.length > 0
      ? ` (of ${owners.map((owner) => owner.view).join(", ")})`
      : "";
  };
  const chain = describeReads(reading);
  const behind: Fact[] = chain === "" ? [] : [["reads", chain]];
  if (asked.length === 0) return [...behind, ["upstreams", "none"]];
  return [
    ...behind,
    ...asked.map((each): Fact => ["upstream", `${describeUpstream(each)}${ownerOf(each)}`]),
    ["signs upstream", describeSigning(findUnsigned(reading), asked.length)],
    ["pushes upstream", pushesUpstream ? "yes" : "no: pushes skip what an upstream has"],
  ];
}

function describeSigning(unsigned: readonly ViewUpstream[], all: number): string {
  if (unsigned.length === 0) return "yes";
  if (unsigned.length === all) return "no: clients trust the upstreams' keys";
  return `all but ${unsigned.map(({ name }) => name).join(", ")}, whose keys clients trust`;
}

function describeLevel(level: number | undefined): string {
  return level === undefined ? "unknown" : `zstd level ${level}`;
}
