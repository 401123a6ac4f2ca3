import { execFileSync } from "node:child_process";
import { cp, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

/** The actions of this repository, by the names that workflows use. */
export const ACTION_NAMES = ["setup-attic", "setup-bazel-cache", "setup-flywheel"] as const;

/** One of {@link ACTION_NAMES}. */
export type ActionName = (typeof ACTION_NAMES)[number];

/** The folder of an action in this repository. */
export function actionDirectory(name: ActionName): string {
  return fileURLToPath(new URL(`../../actions/${name}`, import.meta.url));
}

/** Copies an action, maybe with another command in its bundle's place, and returns the copy's folder. */
export async function copyAction(
  name: ActionName,
  parent: string,
  flywheel?: string,
): Promise<string> {
  const copy = path.join(parent, name);
  await cp(actionDirectory(name), copy, {
    recursive: true,
    filter: (file) => !file.includes("node_modules"),
  });
  if (flywheel !== undefined) await writeFile(path.join(copy, "dist", "flywheel.mjs"), flywheel);
  return copy;
}

/** The repository of an action on a forge, bare, with the tag that workflows name. */
export async function createActionRepository(parent: string): Promise<string> {
  const [tree, bare] = [path.join(parent, "tree"), path.join(parent, "setup-attic.git")];
  await cp(actionDirectory("setup-attic"), tree, {
    recursive: true,
    filter: (file) => !/\/(node_modules|src)$/.test(file),
  });
  const git = (...words: readonly string[]): void =>
    void execFileSync("git", ["-C", tree, "-c", "user.name=t", "-c", "user.email=t@t", ...words]);
  git("init", "--quiet");
  git("add", ".");
  git("commit", "--quiet", "-m", "v1");
  git("tag", "v1");
  git("clone", "--quiet", "--bare", ".", bare);
  return bare;
}
