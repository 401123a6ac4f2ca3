import { openAdminClient } from "../admin-client.ts";
import { note } from "../cli-context.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";
import { UsageError } from "../usage-error.ts";

export const command: Command = defineCommand({
  name: "unquarantine",
  summary: "Take a revocation back",
  description: `What it hid is there again, unless it was built anew meanwhile, and whom it named is accepted again.
Needs an administrator's token.`,
  args: [{ name: "ID", help: "As `revoke` and `revoke --list` show it", completes: "nothing" }],
  options: {
    ...SERVER_OPTIONS,
    tokensOnly: flag("Accept the tokens again, and leave hidden what was written"),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    { comment: "It was a false alarm", command: "flywheel unquarantine 3" },
    {
      comment: "The repository is clean again, what it wrote before is not",
      command: "flywheel unquarantine 3 --tokens-only",
    },
  ],
  async run({ options, args }, context) {
    const id = args[0] ?? "";
    if (!/^\d{1,15}$/.test(id)) throw new UsageError(`${id} is no number of a revocation`);
    await using admin = await openAdminClient(await chooseServer(options, context), context);
    const { restored } = await admin.liftRevocation(Number(id), options.tokensOnly);
    note(context, `Took the revocation ${id} back: ${restored} entries are there again.`);
  },
});
