import type { CommonsExplanation } from "@glorious/cache-client";

import { openAdminClient } from "../admin-client.ts";
import { printLine } from "../cli-context.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";
import { readStorePathHash } from "../store-path-argument.ts";

export const command: Command = defineCommand({
  name: "commons explain",
  summary: "Tell why a store path is in the commons, or is not",
  description: `Who built it alike, how many more are needed, and which references have to be there first. An
administrator sees every view that contributes, everybody else those that the token may pull.`,
  args: [{ name: "PATH", help: "A store path, or its hash of 32 characters", completes: "file" }],
  options: { ...SERVER_OPTIONS, json: flag("Print one line of JSON") },
  environment: SERVER_ENVIRONMENT,
  examples: [
    {
      comment: "Why nobody else hits what your jobs built",
      command: "flywheel commons explain /nix/store/0c5b8vw40dr178xlpddw65q9gf1h2186-hello-2.12",
    },
  ],
  async run({ options, args }, context) {
    const hash = readStorePathHash(args[0] ?? "");
    await using admin = await openAdminClient(await chooseServer(options, context), context);
    const explanation = await admin.explainCommons(hash);
    const lines = options.json ? [JSON.stringify(explanation)] : describe(explanation);
    for (const line of lines) printLine(context, line);
  },
});

function describe(explanation: CommonsExplanation): string[] {
  const { view, tenantsNeeded, isHeld, heldBy, votes, versions } = explanation;
  const voters = votes.map(
    (vote) => `  ${vote.view} ${vote.isWithdrawn ? "withdrew" : "stands to it"}, ${vote.at}`,
  );
  if (isHeld) {
    const why = heldBy === "content" ? "its content gives its name" : "tenants built it alike";
    return [`The path is in ${view}: ${why}.`, ...voters];
  }
  if (versions.length === 0) {
    return [`The path is not in ${view}: no trusted job wrote it into a view that contributes.`];
  }
  const agreed = versions.filter(({ tenants }) => tenants >= tenantsNeeded);
  const reasons = [
    `${tenantsNeeded} tenants must have built it alike`,
    agreed[0]?.missingReferences.length === 0
      ? "it is about to be placed"
      : "references of it are not there yet",
  ];
  const reason = reasons[agreed.length] ?? "tenants agree on more than one build of it";
  return [
    `The path is not in ${view}: ${reason}.`,
    ...versions.flatMap(({ narHash, views, missingReferences }) => [
      `  ${narHash} of ${views.join(", ")}`,
      ...missingReferences.map((reference) => `    waits for ${reference}`),
    ]),
  ];
}
