import { openAdminClient } from "../admin-client.ts";
import { note } from "../cli-context.ts";
import { type Command, defineCommand, list, text, value } from "../command.ts";
import { wholeNumber } from "../parse-number.ts";
import { readUpstreamToken } from "../read-upstream-token.ts";
import { parseMaxSize } from "../retention.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";
import { UsageError } from "../usage-error.ts";

export const command: Command = defineCommand({
  name: "upstream add",
  summary: "Define a cache that views may fall back to",
  description: `The server asks it for what a view has not, believes what its keys have signed, and keeps what it
fetched apart from what was pushed. Views have it once \`flywheel upstream use\` gives it to them. Needs an
administrator's token.`,
  args: [
    { name: "NAME", help: "What to call it: a-z, 0-9 and -", completes: "nothing" },
    { name: "URL", help: "Its address, as a substituter's", completes: "nothing" },
  ],
  options: {
    ...SERVER_OPTIONS,
    key: list("KEY", "A public key of its, name:base64; at least one", (key) => key),
    priority: value(
      "N",
      "Lower ones are preferred; default 40, and then a view's order decides",
      wholeNumber(0),
    ),
    maxSize: value(
      "SIZE",
      "Keep at most this much of what was fetched; default is the server's",
      parseMaxSize,
    ),
    storeDir: text("FOLDER", "The store folder of its paths; default /nix/store"),
    onlyView: text("VIEW", "Let this view alone have it; needed for credentials"),
    upstreamTokenFile: text("FILE", "Its token, or user:password, in FILE, - is standard input", {
      completes: "file",
    }),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    {
      comment: "The cache of Nixpkgs",
      command:
        "flywheel upstream add nixos https://cache.nixos.org --key cache.nixos.org-1:6NCHdD59X431…",
    },
    {
      comment: "A cache that asks for a token, for one view",
      command:
        "flywheel upstream add corp https://nix.example --key corp-1:… --only-view main --upstream-token-file corp.token",
    },
  ],
  async run({ options, args }, context) {
    const [name = "", url = ""] = args;
    const { key, priority, maxSize, storeDir, onlyView, upstreamTokenFile } = options;
    if (key.length === 0) {
      throw new UsageError(
        "upstream add needs a --key",
        "Who runs the cache publishes its public key; `trusted-public-keys` of a client has it.",
      );
    }
    requireNoCredentials(url);
    if (maxSize === "none") throw new UsageError("What is kept of an upstream has a limit");
    if (upstreamTokenFile !== undefined && onlyView === undefined) {
      throw new UsageError(
        "--upstream-token-file needs --only-view",
        "What is fetched with a token is for the readers of one view.",
      );
    }
    const authorization =
      upstreamTokenFile === undefined
        ? undefined
        : await readUpstreamToken(upstreamTokenFile, context);
    await using admin = await openAdminClient(await chooseServer(options, context), context);
    const added = await admin.addUpstream({
      name,
      url,
      publicKeys: key,
      ...(priority === undefined ? {} : { priority }),
      ...(maxSize === undefined ? {} : { maxSizeBytes: maxSize }),
      ...(storeDir === undefined ? {} : { storeDir }),
      ...(onlyView === undefined ? {} : { view: onlyView }),
      ...(authorization === undefined ? {} : { authorization }),
    });
    note(context, `Defined the upstream ${added.name}: ${added.url}`);
    if (added.isReadableOnTheWay) {
      note(context, "Warning: it is plain HTTP; others on the way can see what is fetched.");
    }
    note(
      context,
      `Try it with \`flywheel upstream test ${added.name} PATH\`, then give it to a view: \`flywheel upstream use VIEW ${added.name}\`.`,
    );
  },
});

/** Before it is sent anywhere. It is on the command line already, but need not be in a message as well. */
function requireNoCredentials(url: string): void {
  const { username = "", password = "" } = URL.parse(url) ?? {};
  if (username === "" && password === "") return;
  throw new UsageError(
    "The upstream's address has credentials in it",
    "Leave them out: write user:password into a file, and give it with --upstream-token-file FILE --only-view VIEW.",
  );
}
