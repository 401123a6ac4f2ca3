import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

import { CacheError } from "@glorious/core";

import { git, gitBytes, type TreeFile } from "./git.ts";
import { movesFloatingTag, type ReleaseVersion } from "./release-version.ts";

/** A repository that a release adds one commit to. */
export interface TargetRepository {
  /** The bare repository's folder; it is created when it is not there. */
  readonly directory: string;
  /** For people: `setup-attic of the mirror`. */
  readonly title: string;
  readonly files: readonly TreeFile[];
  /** In front of the version in the exact tag. */
  readonly tagPrefix: "v" | "";
  /** Whether a tag such as `v1` follows the newest release of its major. */
  readonly hasFloatingTag: boolean;
}

/** What the commit says about where it comes from. */
export interface CommitOptions {
  readonly version: ReleaseVersion;
  /** Address and commit of the sources. */
  readonly source: string;
  readonly commit: string;
  /** Seconds since the epoch at which the sources were committed. */
  readonly committedSeconds: string;
}

/** The commit that an exact tag names. */
export interface ReleasedTree {
  readonly title: string;
  readonly directory: string;
  readonly tag: string;
  readonly commit: string;
  readonly tree: string;
  /** The tag that moved here, if one did. */
  readonly floating: string | undefined;
}

const BRANCH = "refs/heads/main";

/**
 * Makes sure that a release may be added to a repository, and creates it when it is not there.
 *
 * @throws {CacheError} `CONFLICT` when its exact tag exists.
 */
export async function prepareRepository(
  target: TargetRepository,
  version: ReleaseVersion,
): Promise<void> {
  if (!existsSync(path.join(target.directory, "HEAD"))) {
    await mkdir(target.directory, { recursive: true });
    await git(target.directory, ["init", "--quiet", "--bare", "--initial-branch=main", "."]);
  }
  const tag = `${target.tagPrefix}${version.text}`;
  const existing = await resolve(target.directory, `refs/tags/${tag}`);
  if (existing !== undefined) {
    throw new CacheError("CONFLICT", `${target.title} has ${tag} already (${existing})`, {
      hint: "An exact tag never moves: release the next version",
    });
  }
}

/**
 * Adds one commit with exactly these files, and its tags, in one step. The same files, sources and history give the
 * same commit, whoever makes it.
 */
export async function commitTree(
  target: TargetRepository,
  options: CommitOptions,
): Promise<ReleasedTree> {
  const { directory, title } = target;
  const { version } = options;
  const tree = await writeTree(directory, target.files);
  const parent = await resolve(directory, BRANCH);
  const commit = await writeCommit(directory, tree, parent, options);
  const tag = `${target.tagPrefix}${version.text}`;
  const tags = (await git(directory, ["tag", "--list"])).split("\n");
  const floats = target.hasFloatingTag && movesFloatingTag(version, tags);
  const floating = floats ? `${target.tagPrefix}${version.major}` : undefined;
  // `create` fails when the tag has come into being since it was looked for.
  const updates = [
    "start",
    `update ${BRANCH} ${commit} ${parent ?? "0".repeat(40)}`,
    `create refs/tags/${tag} ${commit}`,
    ...(floating === undefined ? [] : [`update refs/tags/${floating} ${commit}`]),
    "commit",
  ];
  await git(directory, ["update-ref", "--stdin"], { input: `${updates.join("\n")}\n` });
  return { title, directory, tag, commit, tree, floating };
}

/** What a reference names; `undefined` when it is not there. */
async function resolve(directory: string, reference: string): Promise<string | undefined> {
  const found = await git(directory, ["for-each-ref", "--format=%(objectname)", reference]);
  return found === "" ? undefined : found;
}

async function writeTree(directory: string, files: readonly TreeFile[]): Promise<string> {
  const lines: string[] = [];
  for (const { path: name, mode, contents } of files) {
    const object = await gitBytes(directory, ["hash-object", "-w", "--stdin"], { input: contents });
    lines.push(`${mode} ${object.toString().trim()}\t${name}\n`);
  }
  const folder = await mkdtemp(path.join(tmpdir(), "flywheel-release-"));
  try {
    const env = { GIT_INDEX_FILE: path.join(folder, "index") };
    await git(directory, ["update-index", "--add", "--index-info"], { input: lines.join(""), env });
    return await git(directory, ["write-tree"], { env });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function writeCommit(
  directory: string,
  tree: string,
  parent: string | undefined,
  { version, source, commit, committedSeconds }: CommitOptions,
): Promise<string> {
  const [name, email] = ["GloriousFlywheel", "release@gloriousflywheel.dev"];
  const date = `${committedSeconds} +0000`;
  const message = `Release ${version.text}\n\nSource: ${source}/commit/${commit}\n`;
  return git(directory, ["commit-tree", tree, ...(parent === undefined ? [] : ["-p", parent])], {
    input: message,
    env: {
      ...{ GIT_AUTHOR_NAME: name, GIT_AUTHOR_EMAIL: email, GIT_AUTHOR_DATE: date },
      ...{ GIT_COMMITTER_NAME: name, GIT_COMMITTER_EMAIL: email, GIT_COMMITTER_DATE: date },
    },
  });
}
