import { CacheError } from "@glorious/core";

import type { TreeFile } from "./git.ts";
import type { ReleaseVersion } from "./release-version.ts";
import { rewriteLinks } from "./rewrite-links.ts";
import { rewriteVersions } from "./rewrite-versions.ts";
import type { SourceTree } from "./source-tree.ts";

const FOLDER = "gitlab/";

/** The tree of the GitLab catalog project: the folder `gitlab`, and the licence. */
export function createCatalogTree(
  source: SourceTree,
  version: ReleaseVersion,
): readonly TreeFile[] {
  const files = [...source.files.values()]
    .filter(({ path }) => path.startsWith(FOLDER))
    .map((file) => ({ ...file, path: file.path.slice(FOLDER.length) }));
  // GitLab takes a project into its catalog with these alone.
  for (const wanted of ["README.md", ".gitlab-ci.yml"]) {
    if (!files.some(({ path }) => path === wanted)) {
      throw new CacheError("NOT_FOUND", `${FOLDER}${wanted} is not in the commit`);
    }
  }
  return [...files.map((file) => toReadable(file, source, version)), source.require("LICENSE")];
}

function toReadable(file: TreeFile, source: SourceTree, version: ReleaseVersion): TreeFile {
  if (!file.path.endsWith(".md")) return file;
  const text = rewriteLinks(file.contents.toString(), {
    page: `${FOLDER}${file.path}`,
    source: source.url,
    ref: `v${version.text}`,
    kindOf: (path) => source.kindOf(path),
    comesAlong: (path) => path.startsWith(FOLDER),
  });
  return { ...file, contents: Buffer.from(rewriteVersions(text, version)) };
}
