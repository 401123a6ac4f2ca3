import { mkdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";

import { createActionTree, type Forge, listActions } from "./action-trees.ts";
import { createCatalogTree } from "./catalog-tree.ts";
import {
  commitTree,
  prepareRepository,
  type ReleasedTree,
  type TargetRepository,
} from "./commit-tree.ts";
import { formatProvenance, type Subject } from "./provenance.ts";
import type { ReleaseVersion } from "./release-version.ts";
import { readSourceTree, type SourceTree } from "./source-tree.ts";
import { digestFiles, formatChecksums, writeTreeArchive } from "./write-assets.ts";

/** What is assembled, and where. */
export interface AssembleOptions {
  /** The work tree, at the commit that is released. */
  readonly root: string;
  readonly version: ReleaseVersion;
  /**
   * Gets `repositories/<forge>/glorious/<name>.git`, each one commit and its tags longer, and `assets/<version>`. What
   * repositories it holds already are the published ones.
   */
  readonly out: string;
  /** Address of the forge that mirrors the actions. */
  readonly forgejoUrl: string;
  /** URI of who assembles. */
  readonly builder: string;
  /** Puts the packed packages into a folder. */
  readonly pack: (folder: string) => Promise<void>;
}

/** What was assembled. */
export interface AssembledRelease {
  readonly trees: readonly ReleasedTree[];
  /** The folder of the files to publish. */
  readonly assets: string;
}

/**
 * Assembles a release of a commit: repositories of the actions and of the GitLab catalog, packages, checksums,
 * provenance. The same commit on top of the same repositories gives the same bytes.
 *
 * @throws {CacheError} `CONFLICT`, before anything is written, when an exact tag exists.
 */
export async function assemble(options: AssembleOptions): Promise<AssembledRelease> {
  const { root, version, out } = options;
  const source = await readSourceTree(root);
  const targets = listTargets(source, options);
  for (const target of targets) await prepareRepository(target, version);

  const assets = path.join(out, "assets", version.text);
  await rm(assets, { recursive: true, force: true });
  await mkdir(assets, { recursive: true });
  await options.pack(assets);

  const { url, commit, committedSeconds } = source;
  const trees: ReleasedTree[] = [];
  for (const target of targets) {
    const released = await commitTree(target, { version, source: url, commit, committedSeconds });
    trees.push(released);
    const { archive } = target;
    if (archive !== undefined) await writeTreeArchive(released, archive, assets);
  }
  const files = await digestFiles(assets);
  const subjects: readonly Subject[] = [...files, ...trees.map((tree) => subjectOf(tree, out))];
  await writeFile(path.join(assets, "SHA256SUMS"), formatChecksums(files));
  await writeFile(
    path.join(assets, "provenance.intoto.json"),
    formatProvenance({ version, source: url, commit, builder: options.builder, subjects }),
  );
  return { trees, assets };
}

/** A repository, with the name of its archive among the files, if there is one. */
interface Target extends TargetRepository {
  readonly archive?: string;
}

function listTargets(
  source: SourceTree,
  { version, out, forgejoUrl }: AssembleOptions,
): readonly Target[] {
  const place = (forge: string, name: string): string =>
    path.join(out, "repositories", forge, "glorious", `${name}.git`);
  const forges: readonly Forge[] = [{ kind: "github" }, { kind: "forgejo", url: forgejoUrl }];
  const actions = listActions(source).flatMap((name) =>
    forges.map((forge): Target => ({
      directory: place(forge.kind, name),
      title: `glorious/${name} (${forge.kind})`,
      files: createActionTree(source, name, { version, forge }),
      tagPrefix: "v",
      hasFloatingTag: true,
      // The mirror differs in its README alone.
      ...(forge.kind === "github" ? { archive: `${name}-${version.text}` } : {}),
    })),
  );
  return [
    ...actions,
    {
      directory: place("gitlab", "flywheel"),
      title: "glorious/flywheel (gitlab)",
      files: createCatalogTree(source, version),
      // GitLab's catalog takes versions without a v, and finds the newest of a major by itself.
      tagPrefix: "",
      hasFloatingTag: false,
      archive: `gitlab-flywheel-${version.text}`,
    },
  ];
}

function subjectOf({ directory, tag, commit, tree }: ReleasedTree, out: string): Subject {
  const name = path.relative(path.join(out, "repositories"), directory).replaceAll(path.sep, "/");
  return { name: `${name}@refs/tags/${tag}`, digest: { gitCommit: commit, gitTree: tree } };
}
