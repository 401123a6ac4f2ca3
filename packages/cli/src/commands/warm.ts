import type { WarmReport } from "@glorious/cache-client";
import { CacheError, formatCount, formatDurationMs, formatSizeBytes } from "@glorious/core";

import { openAdminClient } from "../admin-client.ts";
import { note, printLine, warn } from "../cli-context.ts";
import { type Command, defineCommand, flag, list, text } from "../command.ts";
import {
  chooseServer,
  requireView,
  SERVER_ENVIRONMENT,
  SERVER_OPTIONS,
  VIEW_OPTION,
} from "../server-options.ts";
import { readStorePathHash } from "../store-path-argument.ts";
import { UsageError } from "../usage-error.ts";

// A large view may refer to thousands of paths that nobody has; --json names them all.
const SHOWN_MISSING = 20;

export const command: Command = defineCommand({
  name: "warm",
  summary: "Fetch closures from a view's upstreams before they are needed",
  description: `What the view has not is fetched by the server, verified and kept, so that the next job gets it from
there. Nothing of it need be on this machine. The exit code is 1 when something could not be fetched, and when a path
named here, or what one refers to, is nowhere; what --from-push alone looks for may be. Needs a token with the pull
permission.`,
  args: [
    {
      name: "PATH",
      help: "A store path, or its hash",
      isOptional: true,
      isRepeated: true,
      completes: "file",
    },
  ],
  options: {
    ...SERVER_OPTIONS,
    ...VIEW_OPTION,
    closureOf: list(
      "INSTALLABLE",
      "The outputs that this has when it is built, as for `nix build`",
      (installable) => installable,
    ),
    fromPush: flag("What the view's own paths refer to and the view has not"),
    noClosure: flag("The paths alone, without what they refer to"),
    nix: text("COMMAND", "The Nix command; default nix", { completes: "file" }),
    json: flag("Print one line of JSON"),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    {
      comment: "Before the morning's first job",
      command: "flywheel warm --closure-of .#default --view main",
    },
    { comment: "Complete what was pushed", command: "flywheel warm --from-push --view main" },
  ],
  async run({ options, args }, context) {
    const { fromPush, closureOf, noClosure, nix } = options;
    if (args.length === 0 && closureOf.length === 0 && !fromPush) {
      throw new UsageError("Name a PATH, or give --closure-of or --from-push");
    }
    const roots = new Set(args.map(readStorePathHash));
    const choice = await chooseServer(options, context);
    const view = requireView(options.view, choice);
    const { resolveInstallable } = await import("@glorious/cache-client");
    const { signal } = context;
    for (const installable of closureOf) {
      for (const path of await resolveInstallable(installable, { nix, signal })) {
        roots.add(readStorePathHash(path));
      }
    }
    await using admin = await openAdminClient(choice, context);
    const startedMs = context.nowMs();
    const request = { roots: [...roots], fromPush, closure: !noClosure };
    let soFar: WarmReport | undefined;
    const report = await admin.warm(view, request, (next) => {
      // The last one is the result.
      if (soFar !== undefined && !options.json) note(context, describe(soFar));
      soFar = next;
    });
    for (const storePathHash of report.missing.slice(0, SHOWN_MISSING)) {
      note(context, `${storePathHash} is nowhere: no upstream of ${view} that answered has it`);
    }
    for (const { storePathHash, reason } of report.failed) {
      warn(context, `${storePathHash} could not be fetched: ${reason}`);
    }
    if (options.json) printLine(context, JSON.stringify(report));
    else
      printLine(
        context,
        `${describe(report)}, in ${formatDurationMs(context.nowMs() - startedMs)}`,
      );
    if (report.failed.length > 0) {
      throw new CacheError(
        "UNAVAILABLE",
        `${formatCount(report.failed.length, "path")} could not be fetched`,
        {
          hint: "Run the same command again: what is there is skipped.",
        },
      );
    }
    const lacking = fromPush ? report.missing.filter((hash) => roots.has(hash)) : report.missing;
    if (lacking.length > 0) {
      throw new CacheError(
        "NOT_FOUND",
        `${formatCount(lacking.length, "path")} ${lacking.length === 1 ? "is" : "are"} nowhere`,
        {
          hint: "Build and push what no upstream has, or give the view an upstream that has it.",
        },
      );
    }
  },
});

function describe({ fetched, already, missing, bytes, upstreamBytes }: WarmReport): string {
  const cost = `${formatSizeBytes(bytes)}, ${formatSizeBytes(upstreamBytes)} from upstream`;
  return `fetched ${fetched} (${cost}), ${already} there already, ${missing.length} nowhere`;
}
