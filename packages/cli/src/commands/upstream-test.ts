import { CacheError, formatDurationMs } from "@glorious/core";

import { openAdminClient } from "../admin-client.ts";
import { printLine } from "../cli-context.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import { formatFacts } from "../format-table.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";
import { readStorePathHash } from "../store-path-argument.ts";

export const command: Command = defineCommand({
  name: "upstream test",
  summary: "Let the server ask an upstream now, and say what is wrong",
  description: `A PATH that the upstream has shows whether its key is right; without one the server asks for one that it
fetched before. Exit code 1 when anything is wrong. Needs an administrator's token.`,
  args: [
    { name: "NAME", help: "The upstream", completes: "nothing" },
    { name: "PATH", help: "A store path, or its hash", isOptional: true, completes: "file" },
  ],
  options: { ...SERVER_OPTIONS, json: flag("Print one line of JSON") },
  environment: SERVER_ENVIRONMENT,
  examples: [
    { comment: "Is it there", command: "flywheel upstream test nixos" },
    {
      comment: "Is its key right",
      command:
        "flywheel upstream test nixos /nix/store/syd87l2rxw8cbsxmxl853h0r6pdwhwjr-curl-7.82.0-bin",
    },
  ],
  async run({ options, args: [name = "", path] }, context) {
    const hash = path === undefined ? undefined : readStorePathHash(path);
    await using admin = await openAdminClient(await chooseServer(options, context), context);
    const trial = await admin.tryUpstream(name, hash);
    const { isReachable, problems, sample } = trial;
    const isMissing = hash !== undefined && sample?.storePath === undefined;
    if (options.json) {
      printLine(context, JSON.stringify(trial));
    } else {
      const facts = formatFacts([
        ["reachable", isReachable ? `yes, in ${formatDurationMs(trial.durationMs)}` : "no"],
        ["store folder", trial.storeDir ?? "not said"],
        ["priority", trial.priority === undefined ? "not said" : String(trial.priority)],
        ["key", describeKey(trial)],
        ...problems.map(({ reason, message }): [string, string] => [reason, message]),
      ]);
      for (const line of facts) printLine(context, line);
    }
    if (problems.length > 0 || !isReachable) {
      const reasons = problems.map(({ reason }) => reason).join(", ");
      throw new CacheError(
        "UNAVAILABLE",
        `The upstream ${name} is not as it should be: ${reasons}`,
      );
    }
    if (isMissing) throw new CacheError("NOT_FOUND", `The upstream ${name} does not have ${path}`);
  },
});

function describeKey({
  sample,
  problems,
}: {
  readonly sample?: { readonly storePath?: string | undefined } | undefined;
  readonly problems: ReadonlyArray<{ readonly reason: string }>;
}): string {
  if (sample?.storePath !== undefined) return `right: it signed ${sample.storePath}`;
  const isWrong = problems.some(({ reason }) =>
    ["other-key", "wrong-signature", "unsigned"].includes(reason),
  );
  return isWrong ? "wrong" : "not seen: name a PATH that it has";
}
