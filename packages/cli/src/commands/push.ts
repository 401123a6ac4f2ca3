import { CacheError } from "@glorious/core";

import { note, printLine, warn } from "../cli-context.ts";
import { type Command, defineCommand, flag, list, text, value } from "../command.ts";
import { wholeNumber } from "../parse-number.ts";
import { createPushProgress, describeSummary } from "../push-progress.ts";
import { readLines } from "../read-lines.ts";
import {
  chooseServer,
  requireView,
  SERVER_ENVIRONMENT,
  SERVER_OPTIONS,
  VIEW_OPTION,
} from "../server-options.ts";
import { UsageError } from "../usage-error.ts";

export const command: Command = defineCommand({
  name: "push",
  summary: "Upload store paths with all they refer to",
  description: `Paths that the view has, and paths that an upstream cache has signed, are left out. On our own
server the whole closure becomes visible at once, or not at all.`,
  args: [
    {
      name: "PATH",
      help: "A store path, something inside one, or a link to one such as ./result",
      isOptional: true,
      isRepeated: true,
      completes: "file",
    },
  ],
  options: {
    ...SERVER_OPTIONS,
    ...VIEW_OPTION,
    stdin: flag("Read paths from standard input too, one a line"),
    noClosure: flag("Push the paths alone, without what they refer to"),
    dryRun: flag("Say what would be pushed, send nothing"),
    upstreamKey: list(
      "NAME",
      "Leave out paths signed by a key of this name, instead of the view's own list",
      (name) => name,
    ),
    ignoreUpstreamFilter: flag("Push also what an upstream has signed, or has"),
    jobs: value("N", "Uploads at the same time", wholeNumber(1, 256), { short: "j" }),
    store: text("URL", "The Nix store that holds the paths, as in `nix --store`"),
    nix: text("COMMAND", "The Nix command; default nix", { completes: "file" }),
    json: flag("Print a summary as one line of JSON, and no progress"),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    { comment: "Push what you have just built", command: "flywheel push ./result" },
    {
      comment: "Push everything a build made, in a CI job",
      command: "nix-build release.nix | flywheel push --stdin --view main",
    },
    {
      comment: "See what would be sent",
      command: "flywheel push --dry-run --json ./result",
    },
  ],
  async run({ options, args }, context) {
    if (options.ignoreUpstreamFilter && options.upstreamKey.length > 0) {
      throw new UsageError("--upstream-key and --ignore-upstream-filter exclude each other");
    }
    if (options.stdin && options.tokenFile === "-") {
      throw new UsageError("Standard input cannot hold both the paths and the token");
    }
    const paths = [...args, ...(options.stdin ? await readLines(context) : [])];
    if (paths.length === 0 && !options.stdin) {
      throw new UsageError("push needs a PATH, or --stdin", "Such as `flywheel push ./result`.");
    }
    const choice = await chooseServer(options, context);
    const view = requireView(options.view, choice);
    const { openCache, queryClosure } = await import("@glorious/cache-client");
    const { signal } = context;
    const progress = createPushProgress(options.json, context);
    try {
      await using cache = await openCache({
        ...choice,
        view,
        signal,
        onEvent: (event) => progress.onEvent(event),
      });
      const closure =
        paths.length === 0
          ? []
          : await queryClosure(paths, {
              recursive: !options.noClosure,
              nix: options.nix,
              store: options.store,
              storeDir: cache.config.storeDir,
              signal,
            });
      const summary = await cache.push(closure, {
        concurrency: options.jobs,
        dryRun: options.dryRun,
        upstreamKeyNames: options.ignoreUpstreamFilter
          ? []
          : options.upstreamKey.length > 0
            ? options.upstreamKey
            : undefined,
        signal,
        onEvent: (event) => progress.onEvent(event),
      });
      progress.end();
      for (const { storePath, existingNarHash } of summary.conflicts) {
        const other = existingNarHash === undefined ? "" : ` (NAR hash ${existingNarHash})`;
        warn(context, `${view} keeps another content of ${storePath}${other}`);
      }
      if (options.json)
        printLine(context, JSON.stringify({ server: cache.server, view, ...summary }));
      else note(context, describeSummary(summary));
    } catch (error) {
      progress.end();
      if (signal.aborted)
        throw new CacheError("CANCELLED", "The push was interrupted", { cause: error });
      throw error;
    }
  },
});
