import type { Revocation } from "@glorious/cache-client";
import { CacheError } from "@glorious/core";

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
    dryRun: flag("Say what the revocation named and hid, and leave it in force"),
    tokensOnly: flag("Accept the tokens again, and leave hidden what was written"),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    { comment: "Look at it first", command: "flywheel unquarantine 3 --dry-run" },
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
    if (options.dryRun) {
      const revocation = (await admin.listRevocations()).find((each) => each.id === Number(id));
      if (revocation === undefined || revocation.liftedAt !== undefined) {
        throw new CacheError("NOT_FOUND", `There is no revocation ${id} in force`, {
          hint: "`flywheel revoke --list` shows those there are.",
        });
      }
      return note(context, describe(revocation, options.tokensOnly));
    }
    const { restored } = await admin.liftRevocation(Number(id), options.tokensOnly);
    note(context, `Took the revocation ${id} back: ${restored} entries are there again.`);
  },
});

function describe(revocation: Revocation, keepsHidden: boolean): string {
  const { id, createdAt, entries, run, principal, token, since } = revocation;
  const named = Object.entries({ run, principal, token, since })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name} ${value}`)
    .join(", ");
  const effect = keepsHidden
    ? "Its tokens would be accepted again; what it hid would stay hidden."
    : "What of them was not built anew since would be there again, and its tokens accepted.";
  return `The revocation ${id} of ${createdAt} names ${named} and hid ${entries} entries. ${effect}`;
}
