import { openAdminClient } from "../admin-client.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import { printAudit } from "../print-audit.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";
import { readStorePathHash } from "../store-path-argument.ts";

export const command: Command = defineCommand({
  name: "audit path",
  summary: "Show who wrote a store path, and who read it",
  description: `In every view, also what is hidden by a revocation or gone. Reads without a token are nobody's and are
not shown. Needs an administrator's token.`,
  args: [{ name: "PATH", help: "A store path, or its hash of 32 characters", completes: "file" }],
  options: { ...SERVER_OPTIONS, json: flag("Print one line of JSON") },
  environment: SERVER_ENVIRONMENT,
  examples: [
    {
      comment: "Who is behind one path",
      command: "flywheel audit path /nix/store/0c5b8vw40dr178xlpddw65q9gf1h2186-hello-2.12",
    },
  ],
  async run({ options, args }, context) {
    const hash = readStorePathHash(args[0] ?? "");
    await using admin = await openAdminClient(await chooseServer(options, context), context);
    printAudit(await admin.audit("paths", hash), options.json, context);
  },
});
