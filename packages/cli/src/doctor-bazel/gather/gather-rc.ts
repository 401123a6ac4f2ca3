import { access, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import { quoteRcWord } from "@glorious/cache-client";

import { bazelPaths } from "../../bazel-config/bazel-files.ts";
import { type RcReading, readRcFiles } from "../../bazel-config/rc-file.ts";
import type { CliContext } from "../../cli-context.ts";

/** The rc files of a folder, and which of ours are among them. */
export interface GatheredRc {
  readonly userRc: string;
  readonly ownRcPath: string;
  readonly isImported: boolean;
  readonly ownRc: string | undefined;
  readonly reading: RcReading;
}

/** Reads what Bazel reads when it is called in the working directory: machine, workspace, home. */
export async function gatherRc(context: CliContext): Promise<GatheredRc> {
  const user = bazelPaths("user", context);
  const system = bazelPaths("system", context);
  const workspace = await findWorkspace(context.workingDirectory);
  const reading = await readRcFiles(
    [system.userRc, ...(workspace === undefined ? [] : [join(workspace, ".bazelrc")]), user.userRc],
    { read: readText, workspace },
  );
  // Home comes last, and so wins.
  const own = [user, system].find(({ ownRc }) => reading.files.includes(ownRc));
  const { userRc, ownRc } = own ?? user;
  return {
    userRc,
    ownRcPath: ownRc,
    isImported: own !== undefined || (await isNamed(user.userRc, ownRc)),
    ownRc: await readText(ownRc),
    reading,
  };
}

/** The folder that Bazel takes for the workspace: the first upwards with one of its files. */
async function findWorkspace(start: string): Promise<string | undefined> {
  for (let folder = start; ; folder = dirname(folder)) {
    for (const name of ["MODULE.bazel", "REPO.bazel", "WORKSPACE", "WORKSPACE.bazel"]) {
      const isThere = await access(join(folder, name)).then(
        () => true,
        () => false,
      );
      if (isThere) return folder;
    }
    if (folder === dirname(folder)) return undefined;
  }
}

/** A line that brings in a file that is not there leaves no other trace. */
async function isNamed(rc: string, target: string): Promise<boolean> {
  const lines = (await readText(rc))?.split("\n") ?? [];
  return lines.some((line) => line.trim() === `try-import ${quoteRcWord(target)}`);
}

async function readText(path: string): Promise<string | undefined> {
  return readFile(path, "utf8").catch(() => undefined);
}
