import { openAdminClient } from "../admin-client.ts";
import { note, printLine } from "../cli-context.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import { formatTable } from "../format-table.ts";
import {
  chooseServer,
  requireView,
  SERVER_ENVIRONMENT,
  SERVER_OPTIONS,
  VIEW_OPTION,
} from "../server-options.ts";
import { waitForSignatures } from "../wait-for-signatures.ts";

export const command: Command = defineCommand({
  name: "key list",
  summary: "Show the keys that sign a view",
  description: `Oldest first, with the number of paths that are not signed with exactly these keys yet: the server signs
them in the background.`,
  options: {
    ...SERVER_OPTIONS,
    ...VIEW_OPTION,
    wait: flag("Wait until every path is signed"),
    json: flag("Print one line of JSON"),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    { comment: "See which keys sign", command: "flywheel key list --view main" },
    {
      comment: "All public keys, for trusted-public-keys",
      command: "flywheel key list --view main --json | jq -r '.keys[].publicKey'",
    },
  ],
  async run({ options }, context) {
    const choice = await chooseServer(options, context);
    const view = requireView(options.view, choice);
    await using admin = await openAdminClient(choice, context);
    const list = options.wait
      ? await waitForSignatures(admin, view, context)
      : await admin.listKeys(view);
    if (options.json) return printLine(context, JSON.stringify(list));
    const rows = list.keys.map(({ name, publicKey, createdAt }) => [name, publicKey, createdAt]);
    for (const line of formatTable(["KEY", "PUBLIC KEY", "CREATED"], rows))
      printLine(context, line);
    if (list.outdatedPaths > 0)
      note(context, `${list.outdatedPaths} paths are still to be signed.`);
  },
});
