import { openAdminClient } from "../admin-client.ts";
import { note } from "../cli-context.ts";
import { type Command, defineCommand, flag, list, text, value } from "../command.ts";
import { oneOf } from "../one-of.ts";
import { wholeNumber } from "../parse-number.ts";
import { parseCompressionLevel, parseMaxSize, parseRetention } from "../retention.ts";
import {
  chooseServer,
  requireView,
  SERVER_ENVIRONMENT,
  SERVER_OPTIONS,
  VIEW_OPTION,
} from "../server-options.ts";
import { UsageError } from "../usage-error.ts";

const yesOrNo = oneOf("yes", "no");

export const command: Command = defineCommand({
  name: "view configure",
  summary: "Change a view",
  description: "What you do not name stays as it is.",
  args: [
    { name: "VIEW", help: "The view; default is --view", isOptional: true, completes: "nothing" },
  ],
  options: {
    ...SERVER_OPTIONS,
    ...VIEW_OPTION,
    public: flag("Let everybody pull, without a token"),
    private: flag("Let only tokens pull"),
    priority: value("N", "Nix asks the lowest first", wholeNumber(0)),
    upstreamKey: list(
      "NAME",
      "Clients do not push what a key of this name has signed; replaces the list",
      (name) => name,
    ),
    noUpstreamKeys: flag("Let clients push everything"),
    storeDir: text("FOLDER", "The store folder of its paths"),
    retention: value(
      "TIME",
      "Keep unused paths this long: 30d, forever or default",
      parseRetention,
    ),
    maxSize: value(
      "SIZE",
      "Keep at most this much, as stored: 200GiB; none takes the limit away",
      parseMaxSize,
    ),
    compressionLevel: value(
      "N",
      "zstd level of its NARs, 1 to 19; default returns to the server's",
      parseCompressionLevel,
    ),
    signUpstream: value(
      "yes|no",
      "Let the view's keys sign what its upstreams have, so that clients need trust no other",
      yesOrNo,
    ),
    pushUpstream: value("yes|no", "Let pushes send what its upstreams have as well", yesOrNo),
    newKey: flag(
      "Sign with a new key alone; clients refuse it until they learn it, unlike with key rotate",
    ),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    {
      comment: "Keep unused paths for 30 days",
      command: "flywheel view configure main --retention 30d",
    },
    {
      comment: "Keep it below 200 GiB, the longest unused paths go first",
      command: "flywheel view configure main --max-size 200GiB",
    },
    { comment: "Open a view to everybody", command: "flywheel view configure acme+oss --public" },
  ],
  async run({ options, args }, context) {
    requireOne(options.public, "--public", options.private, "--private");
    requireOne(
      options.upstreamKey.length > 0,
      "--upstream-key",
      options.noUpstreamKeys,
      "--no-upstream-keys",
    );
    const choice = await chooseServer(options, context);
    const view = requireView(args[0] ?? options.view, choice);
    const { priority, storeDir, retention, upstreamKey, maxSize, compressionLevel } = options;
    const { signUpstream, pushUpstream } = options;
    const isDefault = retention === "global";
    const change = {
      ...(options.public || options.private ? { isPublic: options.public } : {}),
      ...(priority === undefined ? {} : { priority }),
      ...(storeDir === undefined ? {} : { storeDir }),
      ...(retention === undefined || isDefault ? {} : { retentionPeriod: retention }),
      ...(options.noUpstreamKeys ? { upstreamCacheKeyNames: [] } : {}),
      ...(upstreamKey.length > 0 ? { upstreamCacheKeyNames: upstreamKey } : {}),
      ...(maxSize === undefined ? {} : { maxSizeBytes: maxSize }),
      ...(compressionLevel === undefined ? {} : { compressionLevel }),
      ...(signUpstream === undefined ? {} : { signsUpstream: signUpstream === "yes" }),
      ...(pushUpstream === undefined ? {} : { pushesUpstream: pushUpstream === "yes" }),
      ...(options.newKey ? { keypair: "generate" as const } : {}),
    };
    const isChanged = Object.keys(change).length > 0;
    if (!isChanged && !isDefault) {
      throw new UsageError(
        `Nothing to change about ${view} is named`,
        "See `flywheel view configure --help`.",
      );
    }
    await using admin = await openAdminClient(choice, context);
    if (isChanged) await admin.configureView(view, change);
    // On its own: Attic's command line says "default" with every change without meaning it, so a
    // server may ignore it beside others.
    if (isDefault) await admin.configureView(view, { retentionPeriod: retention });
    note(context, `Changed the view ${view}.`);
    if (options.newKey) {
      const { publicKey } = await admin.viewConfig(view);
      note(
        context,
        `Its public key is now ${publicKey ?? "unknown"}: run \`flywheel use\` on every client.`,
      );
    }
  },
});

function requireOne(isFirst: boolean, first: string, isSecond: boolean, second: string): void {
  if (isFirst && isSecond) throw new UsageError(`${first} and ${second} exclude each other`);
}
