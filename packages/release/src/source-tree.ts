import { CacheError } from "@glorious/core";

import { git, readCommitFiles, type TreeFile } from "./git.ts";

/** The sources as a commit has them: what is published comes from here, never from the work tree. */
export interface SourceTree {
  /** Address of the repository that the sources are published at. */
  readonly url: string;
  readonly commit: string;
  /** When it was committed, in seconds since the epoch. */
  readonly committedSeconds: string;
  /** What a release publishes from and what its pages may link to, by path. */
  readonly files: ReadonlyMap<string, TreeFile>;
  /** What a path is; `undefined` when there is nothing. */
  kindOf(path: string): "file" | "folder" | undefined;
  /**
   * A file that has to be there.
   *
   * @throws {CacheError} `NOT_FOUND` when it is not.
   */
  require(path: string): TreeFile;
}

const PUBLISHED_FROM = ["LICENSE", "package.json", "actions", "examples", "gitlab"];

/** Reads the commit that a work tree is at. */
export async function readSourceTree(root: string): Promise<SourceTree> {
  const commit = await git(root, ["rev-parse", "HEAD^{commit}"]);
  const committedSeconds = await git(root, ["show", "--no-patch", "--format=%ct", commit]);
  const files = new Map<string, TreeFile>();
  for (const below of PUBLISHED_FROM) {
    for (const file of await readCommitFiles(root, commit, below)) files.set(file.path, file);
  }
  const names = await git(root, [
    "ls-tree",
    "-r",
    "-t",
    "-z",
    "--format=%(objecttype) %(path)",
    commit,
  ]);
  const kinds = new Map(
    names.split("\0").map((line) => [line.slice(line.indexOf(" ") + 1), line.startsWith("tree")]),
  );
  const requireFile = (path: string): TreeFile => {
    const file = files.get(path);
    if (file === undefined)
      throw new CacheError("NOT_FOUND", `The commit ${commit} has no ${path}`);
    return file;
  };
  return {
    url: readUrl(requireFile("package.json")),
    commit,
    committedSeconds,
    files,
    kindOf(path) {
      const isFolder = kinds.get(path);
      if (isFolder === undefined) return undefined;
      return isFolder ? "folder" : "file";
    },
    require: requireFile,
  };
}

function readUrl({ contents }: TreeFile): string {
  const manifest = JSON.parse(contents.toString()) as { repository?: { url?: string } };
  const url = /^git\+(https:\/\/.+)\.git$/.exec(manifest.repository?.url ?? "")?.[1];
  if (url === undefined) {
    throw new CacheError(
      "CONFIG",
      "package.json has no repository.url of the form git+https://….git",
    );
  }
  return url;
}
