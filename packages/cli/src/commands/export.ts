import { resolve } from "node:path";

import { CacheError } from "@glorious/core";

import { openAdminClient } from "../admin-client.ts";
import { type Command, defineCommand, text } from "../command.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";
import { readStorePathHash } from "../store-path-argument.ts";
import { readRoots, requireRoots, ROOT_OPTIONS } from "../transfer/read-roots.ts";
import { createTransferProgress, printTransfer, requireNoFailures } from "../transfer/report.ts";
import { UsageError } from "../usage-error.ts";

export const command: Command = defineCommand({
  name: "export",
  summary: "Write a view's store paths as a static binary cache",
  description: `Files that any web server can serve, and Nix reads with \`file://\`: nix-cache-info, narinfos with the view's
signatures, and the NARs as they are stored. Each is verified, and a narinfo comes when its NAR and its references are
there. What the folder has is kept, so that an export that was broken off goes on. Needs the pull permission, and
the configure permission for --all.`,
  args: [
    { name: "VIEW", help: "The view", completes: "nothing" },
    {
      name: "PATH",
      help: "A store path of the view, or its hash",
      isOptional: true,
      isRepeated: true,
      completes: "nothing",
    },
  ],
  options: {
    ...SERVER_OPTIONS,
    to: text("FOLDER", "Where to write; it may hold an earlier export", { completes: "directory" }),
    ...ROOT_OPTIONS,
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    {
      comment: "Take everything with you",
      command: "flywheel export main --to /srv/cache --all",
    },
  ],
  async run({ options, args }, context) {
    const [view = "", ...paths] = args;
    if (options.to === undefined) throw new UsageError("Where --to?");
    requireRoots(paths, options);
    const choice = await chooseServer(options, context);
    const { exportPaths, openSource } = await import("@glorious/cache-client");
    const { signal } = context;
    const { server, token } = choice;
    const directory = resolve(context.workingDirectory, options.to);
    await using admin = await openAdminClient(choice, context);
    const { publicKey, priority, flywheel } = await admin.viewConfig(view);
    const keys = flywheel?.publicKeys ?? (publicKey === undefined ? undefined : [publicKey]);
    const url = new URL(`${view}/`, server).href;
    await using source = await openSource({ url, keys, token, signal });
    async function* listAll(): AsyncGenerator<string> {
      for await (const path of admin.listPaths(view)) yield readStorePathHash(path);
    }
    const progress = createTransferProgress(options.json, context);
    try {
      const summary = await exportPaths({
        source,
        directory,
        priority,
        roots: options.all ? listAll() : readRoots(paths, options.pathsFrom, context),
        followsReferences: !options.noClosure,
        concurrency: options.jobs,
        onEvent: progress.onEvent,
        signal,
      });
      progress.end();
      const words = { done: "Exported", where: `to ${directory}` };
      printTransfer(summary, words, { server, view, directory }, options.json, context);
      requireNoFailures(summary.failed, "exported");
    } catch (error) {
      progress.end();
      if (!signal.aborted) throw error;
      throw new CacheError("CANCELLED", "The export was interrupted", {
        cause: error,
        hint: "Run the same command again: it goes on where it was.",
      });
    }
  },
});
