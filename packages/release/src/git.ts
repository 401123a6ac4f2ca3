import { runCommand } from "./run-command.ts";

/** A file of a tree, by its path with slashes. */
export interface TreeFile {
  readonly path: string;
  /** As Git has it: `100644`, or `100755` for what may be run. */
  readonly mode: string;
  readonly contents: Buffer;
}

// A hook of the caller's, such as one that runs this in a commit, must not redirect us to its repository.
const OURS_ALONE = {
  GIT_DIR: undefined,
  GIT_INDEX_FILE: undefined,
  GIT_WORK_TREE: undefined,
  GIT_CONFIG_NOSYSTEM: "1",
} as const;

/** Runs git in a repository and returns what it printed, without the last line's end. */
export async function git(
  repository: string,
  args: readonly string[],
  options: { readonly input?: string; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<string> {
  return (await gitBytes(repository, args, options)).toString().trimEnd();
}

/** Runs git in a repository and returns the bytes that it printed. */
export function gitBytes(
  repository: string,
  args: readonly string[],
  options: {
    readonly input?: string | Uint8Array;
    readonly env?: Readonly<Record<string, string>>;
  } = {},
): Promise<Buffer> {
  return runCommand("git", args, {
    cwd: repository,
    ...options,
    env: { ...OURS_ALONE, ...options.env },
  });
}

/** The files that a commit has below a folder or is one, with paths from the top, sorted. */
export async function readCommitFiles(
  repository: string,
  commit: string,
  below: string,
): Promise<readonly TreeFile[]> {
  const listing = await git(repository, ["ls-tree", "-r", "-z", commit, "--", below]);
  const entries = listing.split("\0").filter((entry) => entry !== "");
  return Promise.all(
    entries.map(async (entry) => {
      const [, mode = "", object = "", path = ""] = /^(\d+) \w+ (\w+)\t(.*)$/s.exec(entry) ?? [];
      return { path, mode, contents: await gitBytes(repository, ["cat-file", "blob", object]) };
    }),
  );
}
