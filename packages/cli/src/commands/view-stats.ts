import type { ViewBazelStats } from "@glorious/cache-client";
import { formatSizeBytes } from "@glorious/core";

import { openAdminClient } from "../admin-client.ts";
import { printLine } from "../cli-context.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import { formatFacts } from "../format-table.ts";
import {
  chooseServer,
  requireView,
  SERVER_ENVIRONMENT,
  SERVER_OPTIONS,
  VIEW_OPTION,
} from "../server-options.ts";
import { describeUpstream, findViewUpstreams } from "../view-upstreams.ts";

export const command: Command = defineCommand({
  name: "view stats",
  summary: "Show what a view holds, for Nix and for Bazel",
  description: `Sizes are counted as if no other view shared anything with this one. Hits, misses and what was read
and uploaded of its Bazel face are counted from the server's start. What was fetched from its upstreams is apart
from it, and shared with other views that have them; how much that is sees who configures the view.`,
  args: [
    { name: "VIEW", help: "The view; default is --view", isOptional: true, completes: "nothing" },
  ],
  options: { ...SERVER_OPTIONS, ...VIEW_OPTION, json: flag("Print one line of JSON") },
  environment: SERVER_ENVIRONMENT,
  examples: [
    { comment: "See how big a view is", command: "flywheel view stats main" },
    { comment: "Feed a script", command: "flywheel view stats main --json | jq .fileBytes" },
  ],
  async run({ options, args }, context) {
    const choice = await chooseServer(options, context);
    const view = requireView(args[0] ?? options.view, choice);
    await using admin = await openAdminClient(choice, context);
    const stats = await admin.viewStats(view);
    const { upstreams = [] } = (await findViewUpstreams(admin, view)) ?? {};
    if (options.json) return printLine(context, JSON.stringify({ view, ...stats, upstreams }));
    const facts = formatFacts([
      ["paths", String(stats.paths)],
      ["NARs", String(stats.nars)],
      ["uncompressed", formatSizeBytes(stats.narBytes)],
      ["stored", formatSizeBytes(stats.fileBytes)],
      ["uploads", `${stats.uploads} (${formatSizeBytes(stats.uploadedNarBytes)} uncompressed)`],
      ["conflicts", String(stats.conflicts)],
      ...upstreams.map((upstream): [string, string] => ["upstream", describeUpstream(upstream)]),
      ...(stats.bazel === undefined ? [] : bazelFacts(stats.bazel)),
    ]);
    for (const line of facts) printLine(context, line);
  },
});

function bazelFacts(bazel: ViewBazelStats): [name: string, value: string][] {
  const misses = bazel.actionsAbsent + bazel.actionsIncomplete;
  const stored = formatSizeBytes(bazel.storedBytes);
  return [
    ["Bazel blobs", `${bazel.blobs} (${formatSizeBytes(bazel.logicalBytes)}, stored ${stored})`],
    ["Bazel actions", String(bazel.actions)],
    ["Bazel instances", String(bazel.instances)],
    ["action hits", String(bazel.actionHits)],
    [
      "action misses",
      `${misses} (${bazel.actionsEvicted} of them evicted, ${bazel.actionsIncomplete} incomplete)`,
    ],
    ["blobs read", `${bazel.blobsRead} (${formatSizeBytes(bazel.bytesRead)})`],
    ["blobs uploaded", `${bazel.blobsStored} (${formatSizeBytes(bazel.bytesStored)})`],
    ["keyed values", `${bazel.keyedValues} (${bazel.valueHits} hits, ${bazel.valueMisses} misses)`],
  ];
}
