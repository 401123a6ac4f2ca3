import { createReadStream } from "node:fs";
import { resolve } from "node:path";

import type { CliContext } from "../cli-context.ts";
import { flag, type FlagOption, text, value, type ValueOption } from "../command.ts";
import { wholeNumber } from "../parse-number.ts";
import { readStorePathHash } from "../store-path-argument.ts";
import { UsageError } from "../usage-error.ts";

/** The options that say which paths an import or export is about. */
export const ROOT_OPTIONS: {
  readonly all: FlagOption;
  readonly pathsFrom: ValueOption<string>;
  readonly noClosure: FlagOption;
  readonly jobs: ValueOption<number>;
  readonly json: FlagOption;
} = {
  all: flag("All there is, as far as it can be listed"),
  pathsFrom: text("FILE", "Also the paths that FILE names, one a line; - is standard input", {
    completes: "file",
  }),
  noClosure: flag("The paths alone, without what they refer to"),
  jobs: value("N", "NARs at the same time", wholeNumber(1, 256), { short: "j" }),
  json: flag("Print a summary as one line of JSON, and no progress"),
};

/** What {@link readRoots} looks at. */
export interface RootValues {
  readonly all: boolean;
  readonly pathsFrom: string | undefined;
  readonly tokenFile: string | undefined;
}

/** @throws {UsageError} when the command line names no paths, or names them twice over. */
export function requireRoots(paths: readonly string[], options: RootValues): void {
  const isNamed = paths.length > 0 || options.pathsFrom !== undefined;
  if (options.all && isNamed) throw new UsageError("--all and paths exclude each other");
  if (!options.all && !isNamed) {
    throw new UsageError("Which paths?", "Give PATH…, --paths-from FILE or --all.");
  }
  if (options.pathsFrom === "-" && options.tokenFile === "-") {
    throw new UsageError("Standard input cannot hold both the paths and the token");
  }
}

/** The hashes of the paths that the command line names. @throws {UsageError} for one that is no store path. */
export async function* readRoots(
  paths: readonly string[],
  pathsFrom: string | undefined,
  context: CliContext,
): AsyncGenerator<string, void, undefined> {
  for (const path of paths) yield readStorePathHash(path);
  if (pathsFrom === undefined) return;
  const { findNames } = await import("@glorious/cache-client");
  const file: AsyncIterable<Uint8Array> =
    pathsFrom === "-"
      ? context.stdin
      : createReadStream(resolve(context.workingDirectory, pathsFrom));
  yield* findNames(file, "paths");
}
