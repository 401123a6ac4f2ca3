import { openAdminClient } from "../admin-client.ts";
import { note, printLine } from "../cli-context.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import {
  chooseServer,
  requireView,
  SERVER_ENVIRONMENT,
  SERVER_OPTIONS,
  VIEW_OPTION,
} from "../server-options.ts";
import { waitForSignatures } from "../wait-for-signatures.ts";

export const command: Command = defineCommand({
  name: "key rotate",
  summary: "Sign a view with a new key beside the old ones",
  description: `The server makes the key and keeps its secret. Old and new keys sign everything until you retire the old
one, so no client notices: first let every client trust the new key, which \`flywheel use\` does, then
\`flywheel key retire\` the old one. Prints the new public key. Needs the configure permission.`,
  options: {
    ...SERVER_OPTIONS,
    ...VIEW_OPTION,
    wait: flag("Wait until the new key has signed every path"),
    json: flag("Print one line of JSON"),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    {
      comment: "Add a key, and come back when it has signed everything",
      command: "flywheel key rotate --view main --wait",
    },
  ],
  async run({ options }, context) {
    const choice = await chooseServer(options, context);
    const view = requireView(options.view, choice);
    await using admin = await openAdminClient(choice, context);
    const key = await admin.addKey(view);
    note(context, `${view} is signed with ${key.name} as well from now on.`);
    // Before the wait, which may be interrupted.
    printLine(context, options.json ? JSON.stringify(key) : key.publicKey);
    if (options.wait) {
      await waitForSignatures(admin, view, context);
      note(context, "It has signed every path.");
    } else {
      note(context, "Old paths are signed in the background: see `flywheel key list`.");
    }
  },
});
