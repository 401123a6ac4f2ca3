import { openAdminClient } from "../admin-client.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import { readDigestHash } from "../digest-argument.ts";
import { printAudit } from "../print-audit.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";

export const command: Command = defineCommand({
  name: "audit action",
  summary: "Show who wrote an ActionResult of Bazel's, and who was given it",
  description: `Under every instance name, also what is hidden by a revocation, what another one took the place of, and
what was evicted after it was read. Reads without a token are nobody's and are not shown. Needs an administrator's
token.`,
  args: [
    { name: "DIGEST", help: "The action's digest, with its size or without", completes: "nothing" },
  ],
  options: { ...SERVER_OPTIONS, json: flag("Print one line of JSON") },
  environment: SERVER_ENVIRONMENT,
  examples: [
    {
      comment: "Who is behind a result, by the digest that Bazel's execution log shows",
      command:
        "flywheel audit action 8a3f9d1c5e7b2406d8f1a9c3b5e7d90214f6a8bc0d2e4f60718293a4b5c6d7e8/142",
    },
  ],
  async run({ options, args }, context) {
    const hash = readDigestHash(args[0] ?? "");
    await using admin = await openAdminClient(await chooseServer(options, context), context);
    printAudit(await admin.audit("actions", hash), options.json, context);
  },
});
