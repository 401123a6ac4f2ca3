import { openAdminClient } from "../admin-client.ts";
import { note } from "../cli-context.ts";
import { type Command, defineCommand, flag, list, text, value } from "../command.ts";
import { wholeNumber } from "../parse-number.ts";
import { parseRetention } from "../retention.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";
import { UsageError } from "../usage-error.ts";

export const command: Command = defineCommand({
  name: "view create",
  summary: "Create a view",
  description: "The server makes the signing key, and keeps it. Needs the create permission.",
  args: [{ name: "VIEW", help: "Its full name: VIEW, or TENANT+VIEW", completes: "nothing" }],
  options: {
    ...SERVER_OPTIONS,
    public: flag("Let everybody pull, without a token"),
    priority: value(
      "N",
      "Nix asks the lowest first; default 41, just after cache.nixos.org",
      wholeNumber(0),
    ),
    upstreamKey: list(
      "NAME",
      "Clients do not push what a key of this name has signed; default cache.nixos.org-1",
      (name) => name,
    ),
    noUpstreamKeys: flag("Let clients push everything"),
    storeDir: text("FOLDER", "The store folder of its paths; default /nix/store"),
    retention: value(
      "TIME",
      "Keep unused paths this long: 30d, forever or default",
      parseRetention,
    ),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    { comment: "A private view", command: "flywheel view create main" },
    {
      comment: "A view of the tenant acme that everybody may pull from",
      command: "flywheel view create acme+oss --public --retention 30d",
    },
  ],
  async run({ options, args }, context) {
    const [view = ""] = args;
    if (options.noUpstreamKeys && options.upstreamKey.length > 0) {
      throw new UsageError("--upstream-key and --no-upstream-keys exclude each other");
    }
    const { upstreamKey, priority, storeDir, retention } = options;
    await using admin = await openAdminClient(await chooseServer(options, context), context);
    await admin.createView(view, {
      isPublic: options.public,
      ...(priority === undefined ? {} : { priority }),
      ...(storeDir === undefined ? {} : { storeDir }),
      ...(options.noUpstreamKeys ? { upstreamCacheKeyNames: [] } : {}),
      ...(upstreamKey.length > 0 ? { upstreamCacheKeyNames: upstreamKey } : {}),
    });
    if (retention !== undefined) await admin.configureView(view, { retentionPeriod: retention });
    note(context, `Created the ${options.public ? "public" : "private"} view ${view}.`);
  },
});
