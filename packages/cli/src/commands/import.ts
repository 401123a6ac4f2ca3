import { CacheError } from "@glorious/core";

import { openAdminClient } from "../admin-client.ts";
import type { CliContext } from "../cli-context.ts";
import { type Command, defineCommand, flag, list, text } from "../command.ts";
import {
  chooseServer,
  SERVER_ENVIRONMENT,
  SERVER_OPTIONS,
  type ServerChoice,
} from "../server-options.ts";
import { carryPins, carrySettings, readPins } from "../transfer/carry-settings.ts";
import { type Origin, openOrigins, requireOrigin } from "../transfer/open-origins.ts";
import { readRoots, requireRoots, ROOT_OPTIONS } from "../transfer/read-roots.ts";
import { createTransferProgress, printTransfer, requireNoFailures } from "../transfer/report.ts";

export const command: Command = defineCommand({
  name: "import",
  summary: "Bring store paths from another cache into a view",
  description: `From any Nix binary cache, from an Attic server, or from an Attic server's database and storage. Each path
comes with all it refers to, keeps its signatures, and is verified by us and by the server. What is wrong is told in one
line and left out, with what needs it; the exit code is 1 then. What the view has is skipped, so that an import that was
broken off goes on when it is run again. Needs the push permission.`,
  args: [
    { name: "VIEW", help: "The view to bring them into", isOptional: true, completes: "nothing" },
    {
      name: "PATH",
      help: "A store path of the source, or its hash",
      isOptional: true,
      isRepeated: true,
      completes: "nothing",
    },
  ],
  options: {
    ...SERVER_OPTIONS,
    from: text("URL", "A binary cache: http(s)://… or file:///…"),
    key: list("KEY", "A public key of the source; its signatures count", (key) => key),
    unsigned: flag("Believe the source: take what nobody has signed"),
    index: text("URL", "What lists the source for --all, when its own address does not"),
    fromAttic: text("URL", "An Attic server, whose cache --cache names"),
    cache: text("NAME", "The Attic cache"),
    sourceTokenFile: text("FILE", "Take the token for the source from FILE", { completes: "file" }),
    fromAtticDatabase: text("FILE", "An Attic server's SQLite database, read only", {
      completes: "file",
    }),
    storage: text("FOLDER", "Its local storage, or a copy of its bucket", {
      completes: "directory",
    }),
    allCaches: flag("Each cache of the database into the view of its name"),
    withSettings: flag("Take over who may read, priority, upstream keys and retention, too"),
    withKeys: flag("Take over settings and the key that signs, so that no client notices"),
    pinsFrom: text("FILE", "Pin what FILE names afterwards: a name and a store path on each line", {
      completes: "file",
    }),
    ...ROOT_OPTIONS,
    dryRun: flag("Say how much would be imported, send nothing"),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    {
      comment: "Take the paths of a list, with all they refer to, from another cache",
      command:
        'flywheel import main --from https://cache.example.org --key "$KEY" --paths-from paths.txt',
    },
    {
      comment: "Take all of a static cache in a folder",
      command: "flywheel import main --from file:///srv/cache --unsigned --all",
    },
    {
      comment: "Move all caches of an Attic server here, with their keys",
      command:
        "flywheel import --from-attic-database server.db --storage storage --all-caches --all --with-keys",
    },
  ],
  async run({ options, args }, context) {
    const [view, ...paths] = args;
    requireOrigin(options, view);
    requireRoots(paths, options);
    const choice = await chooseServer(options, context);
    const given = await readPins(options.pinsFrom, context);
    const { origins, close } = await openOrigins(options, view, context);
    let failed = 0;
    try {
      for (const origin of origins) failed += await importOrigin(origin, paths);
    } finally {
      await close();
    }
    requireNoFailures(failed, "imported");

    async function importOrigin(origin: Origin, named: readonly string[]): Promise<number> {
      await using admin = await openAdminClient(choice, context);
      if (options.withSettings || options.withKeys) {
        await carrySettings(admin, origin, options.withKeys, context);
      }
      const failures = await importInto(origin, named, choice, options, context);
      const pins = new Map([...(origin.pins ?? []), ...given]);
      const carried = { view: origin.view, pins };
      return failures + (options.dryRun ? 0 : await carryPins(admin, carried, context));
    }
  },
});

interface ImportValues {
  readonly all: boolean;
  readonly pathsFrom: string | undefined;
  readonly noClosure: boolean;
  readonly dryRun: boolean;
  readonly json: boolean;
  readonly jobs: number | undefined;
}

/** Imports one cache and returns how many paths failed. */
async function importInto(
  { view, source }: Origin,
  paths: readonly string[],
  choice: ServerChoice,
  options: ImportValues,
  context: CliContext,
): Promise<number> {
  const { importPaths, openCache } = await import("@glorious/cache-client");
  const { signal } = context;
  const progress = createTransferProgress(options.json, context);
  const { onEvent } = progress;
  try {
    await using cache = await openCache({ ...choice, view, signal, onEvent });
    const summary = await importPaths({
      source,
      cache,
      roots: options.all ? source.list(signal) : readRoots(paths, options.pathsFrom, context),
      followsReferences: !options.noClosure,
      concurrency: options.jobs,
      dryRun: options.dryRun,
      onEvent,
      signal,
    });
    progress.end();
    const words = { where: `into ${view}`, isDryRun: options.dryRun };
    const done = options.dryRun ? "Would import" : "Imported";
    const facts = { server: cache.server, view, source: source.name };
    printTransfer(summary, { done, ...words }, facts, options.json, context);
    return summary.failed;
  } catch (error) {
    progress.end();
    if (!signal.aborted) throw error;
    throw new CacheError("CANCELLED", "The import was interrupted", {
      cause: error,
      hint: "Run the same command again: it goes on where it was.",
    });
  }
}
