import { openAdminClient } from "../admin-client.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import { readDigestHash } from "../digest-argument.ts";
import { printAudit } from "../print-audit.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";

export const command: Command = defineCommand({
  name: "audit blob",
  summary: "Show who wrote a blob of Bazel's",
  description: `Who was given a blob is not recorded: an ActionResult led to it, see \`audit action\`. Needs an
administrator's token.`,
  args: [{ name: "DIGEST", help: "Its digest, with its size or without", completes: "nothing" }],
  options: { ...SERVER_OPTIONS, json: flag("Print one line of JSON") },
  environment: SERVER_ENVIRONMENT,
  examples: [
    {
      comment: "Who brought an output",
      command:
        "flywheel audit blob 8a3f9d1c5e7b2406d8f1a9c3b5e7d90214f6a8bc0d2e4f60718293a4b5c6d7e8/9120",
    },
  ],
  async run({ options, args }, context) {
    const hash = readDigestHash(args[0] ?? "");
    await using admin = await openAdminClient(await chooseServer(options, context), context);
    printAudit(await admin.audit("blobs", hash), options.json, context);
  },
});
