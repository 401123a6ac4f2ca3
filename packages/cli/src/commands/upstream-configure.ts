import { openAdminClient } from "../admin-client.ts";
import { note } from "../cli-context.ts";
import { type Command, defineCommand, list, text, value } from "../command.ts";
import { wholeNumber } from "../parse-number.ts";
import { readUpstreamToken } from "../read-upstream-token.ts";
import { parseMaxSize } from "../retention.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";
import { UsageError } from "../usage-error.ts";

export const command: Command = defineCommand({
  name: "upstream configure",
  summary: "Change an upstream",
  description: `What you do not name stays as it is. When a key goes, all that was fetched goes with it: it was believed on
that key's word. Needs an administrator's token.`,
  args: [{ name: "NAME", help: "The upstream", completes: "nothing" }],
  options: {
    ...SERVER_OPTIONS,
    key: list("KEY", "A public key of its, name:base64; replaces the list", (key) => key),
    priority: value("N", "Lower ones are preferred", wholeNumber(0)),
    maxSize: value(
      "SIZE",
      "Keep at most this much of what was fetched; none is the server's default",
      parseMaxSize,
    ),
    upstreamTokenFile: text(
      "FILE",
      "Its new token, or user:password, in FILE, - is standard input",
      {
        completes: "file",
      },
    ),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    { comment: "Keep more of it", command: "flywheel upstream configure nixos --max-size 200GiB" },
    {
      comment: "Trust its next key beside the one it has",
      command: "flywheel upstream configure corp --key corp-1:… --key corp-2:…",
    },
  ],
  async run({ options, args: [name = ""] }, context) {
    const { key, priority, maxSize, upstreamTokenFile } = options;
    const change = {
      ...(key.length === 0 ? {} : { publicKeys: key }),
      ...(priority === undefined ? {} : { priority }),
      ...(maxSize === undefined ? {} : { maxSizeBytes: maxSize === "none" ? null : maxSize }),
      ...(upstreamTokenFile === undefined
        ? {}
        : { authorization: await readUpstreamToken(upstreamTokenFile, context) }),
    };
    if (Object.keys(change).length === 0) {
      throw new UsageError(
        `Nothing to change about ${name} is named`,
        "See `flywheel upstream configure --help`.",
      );
    }
    await using admin = await openAdminClient(await chooseServer(options, context), context);
    await admin.changeUpstream(name, change);
    note(context, `Changed the upstream ${name}.`);
  },
});
