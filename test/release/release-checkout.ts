import { copyFile, mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { type CommandResult, createTemporaryDirectory, runCommand } from "@glorious/testkit";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** A checkout of its own, as a maintainer has it, of what is in this one: committed or not. */
export interface ReleaseCheckout extends AsyncDisposable {
  readonly root: string;
  /** Where releases go. */
  readonly out: string;
  /** Runs a command there and returns what it said, whatever its exit status. */
  run(command: string, args: readonly string[]): Promise<CommandResult>;
  /** Does the same and returns what it printed. @throws {Error} when it fails. */
  output(command: string, args: readonly string[]): Promise<string>;
  commitAll(message: string): Promise<void>;
}

/** Copies this checkout into a repository, and installs what its lockfile names. */
export async function createReleaseCheckout(): Promise<ReleaseCheckout> {
  return openCheckout(async (checkout) => {
    await copyCheckout(checkout.root);
    await checkout.output("git", ["init", "--quiet", "--initial-branch=main"]);
    await checkout.output("git", ["config", "user.name", "test"]);
    await checkout.output("git", ["config", "user.email", "test@example.org"]);
    await checkout.commitAll("all");
  });
}

/** Clones another one, for somebody else to assemble what it was released from. */
export async function cloneReleaseCheckout(other: ReleaseCheckout): Promise<ReleaseCheckout> {
  return openCheckout(async (checkout) => {
    await mkdir(checkout.root);
    await checkout.output("git", ["clone", "--quiet", other.root, "."]);
  });
}

async function openCheckout(
  fill: (checkout: ReleaseCheckout) => Promise<void>,
): Promise<ReleaseCheckout> {
  await using opened = new AsyncDisposableStack();
  const folder = opened.use(await createTemporaryDirectory("flywheel-release-"));
  const root = path.join(folder.path, "checkout");
  const owned = opened.move();
  const run = (command: string, args: readonly string[]): Promise<CommandResult> =>
    runCommand(command, args, { cwd: root, timeoutMs: 600_000 });
  const output = async (command: string, args: readonly string[]): Promise<string> => {
    const { status, stdout, stderr } = await run(command, args);
    if (status !== 0) throw new Error(`${command} ${args.join(" ")}: ${stdout}${stderr}`);
    return stdout.trimEnd();
  };
  const checkout: ReleaseCheckout = {
    root,
    out: path.join(folder.path, "out"),
    run,
    output,
    async commitAll(message) {
      await output("git", ["add", "--all"]);
      await output("git", ["commit", "--quiet", "--message", message]);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
  await fill(checkout);
  await output("pnpm", ["install", "--frozen-lockfile", "--prefer-offline"]);
  return checkout;
}

/** Takes every package and action to a version, as a maintainer does before a release of it. */
export async function bumpToFirstMajor(checkout: ReleaseCheckout): Promise<void> {
  const change = `---\n"@glorious/core": major\n---\n\nThe first release.\n`;
  await writeFile(path.join(checkout.root, ".changeset", "first-major.md"), change);
  await checkout.output("pnpm", ["release:version"]);
  await checkout.commitAll("chore: 1.0.0");
}

async function copyCheckout(target: string): Promise<void> {
  const listing = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
  const { stdout } = await runCommand("git", listing, { cwd: ROOT });
  const { stdout: gone } = await runCommand("git", ["ls-files", "-z", "--deleted"], { cwd: ROOT });
  const deleted = new Set(gone.split("\0"));
  for (const name of stdout.split("\0").filter((file) => file !== "" && !deleted.has(file))) {
    await mkdir(path.dirname(path.join(target, name)), { recursive: true });
    await copyFile(path.join(ROOT, name), path.join(target, name));
  }
}
