import { execFile } from "node:child_process";
import { stat } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";

import { CacheError, describeError } from "@glorious/core";

/** Where the actions of a workflow are. */
export interface ActionSources {
  /** Folders or bare Git repositories, by what stands before the `@` in `uses`, with the forge's address or without. */
  readonly actions: Readonly<Record<string, string>>;
  /** Where repositories are checked out. */
  readonly directory: string;
}

/**
 * Finds the folder of what a step `uses`: of the whole address first, then of the name without the forge's. A repository
 * is checked out at the reference, as a runner does it for each job.
 *
 * @throws {CacheError} `NOT_FOUND` when no folder is given for it, or the repository has no such reference or path.
 */
export async function findAction(uses: string, sources: ActionSources): Promise<string> {
  const { name, reference } = parseUses(uses);
  const [owner = "", repository = "", ...below] = withoutForge(name).split("/");
  const forge = name.slice(0, name.length - withoutForge(name).length);
  const found = [name, withoutForge(name)].find((key) => Object.hasOwn(sources.actions, key));
  if (found !== undefined) return checkOut(sources.actions[found] ?? "", uses, reference, sources);
  const whole = [`${forge}${owner}/${repository}`, `${owner}/${repository}`];
  const parent = whole.find((key) => Object.hasOwn(sources.actions, key));
  if (parent === undefined || below.length === 0) {
    throw new CacheError("NOT_FOUND", `No folder is given for the action ${JSON.stringify(uses)}`, {
      hint: "Name it in `actions`.",
    });
  }
  const root = await checkOut(sources.actions[parent] ?? "", uses, reference, sources);
  return path.join(root, ...below);
}

/** What stands before the reference, without the forge's address. */
export function actionName(uses: string): string {
  return withoutForge(parseUses(uses).name);
}

function parseUses(uses: string): { readonly name: string; readonly reference: string } {
  const at = uses.lastIndexOf("@");
  if (at < 1) return { name: uses, reference: "" };
  return { name: uses.slice(0, at), reference: uses.slice(at + 1) };
}

function withoutForge(name: string): string {
  return name.replace(/^https?:\/\/[^/]+\//, "");
}

async function checkOut(
  source: string,
  uses: string,
  reference: string,
  { directory }: ActionSources,
): Promise<string> {
  if (!(await isBareRepository(source))) return source;
  const target = path.join(directory, uses.replaceAll(/[^\w.@-]+/g, "_"));
  const git = promisify(execFile);
  try {
    await git("git", ["clone", "--quiet", "--no-checkout", source, target]);
    await git("git", ["-C", target, "checkout", "--quiet", reference]);
    return target;
  } catch (cause) {
    throw new CacheError("NOT_FOUND", `${uses} cannot be checked out: ${describeError(cause)}`, {
      cause,
    });
  }
}

async function isBareRepository(folder: string): Promise<boolean> {
  const marks = ["HEAD", "objects", "refs"].map((name) => stat(path.join(folder, name)));
  return (await Promise.allSettled(marks)).every(({ status }) => status === "fulfilled");
}
