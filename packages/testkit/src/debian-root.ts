import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { type CommandOptions, type CommandResult, runCommand } from "./run-command.ts";
import { missingToolReason, toolsDirectory } from "./tools-directory.ts";

/** A Debian suite that is not this machine's, unpacked into a folder with some of its programs. */
export interface DebianRoot {
  readonly suite: string;
  readonly directory: string;
  /** The version of each program that it was made for, by its package. */
  readonly versions: Readonly<Record<string, string>>;
}

const SUITES = ["bookworm", "sid"] as const;
/** A suite that the set-up brings. */
export type DebianSuite = (typeof SUITES)[number];

const CHECKOUT = fileURLToPath(new URL("../../../", import.meta.url));

/**
 * Sees the root's own files, and this machine's temporary folder, checkout and Node under their own paths. All
 * processes end with the first: a killed one leaves no server of its own behind.
 */
const ENTER = `
root=$1; shift
mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" || exit 125
while [ "$1" != -- ]; do mount --rbind "$1" "$root$1" || exit 125; shift; done
shift
cd "$PWD" && exec /usr/sbin/chroot "$root" sh -c 'cd "$1" && shift && exec "$@"' sh "$PWD" "$@"
`;

const found = new Map<DebianSuite, DebianRoot | string>();

/** Finds a suite's root; a text says why it cannot be used. Looks once per process. */
export function findDebianRoot(suite: DebianSuite): DebianRoot | string {
  const known = found.get(suite) ?? lookFor(suite);
  found.set(suite, known);
  return known;
}

/**
 * Runs a program of the root to its end, in the working directory and with the environment given, which are
 * the same inside. The network is this machine's.
 *
 * @throws {Error} when it does not end in time.
 */
export function runInDebianRoot(
  root: DebianRoot,
  command: string,
  args: readonly string[],
  options: CommandOptions & { readonly env: Readonly<Record<string, string | undefined>> },
): Promise<CommandResult> {
  const { command: program, args: words } = enterDebianRoot(root, command, args);
  return runCommand(program, words, { cwd: tmpdir(), ...options });
}

/** The command of this machine that runs a program of the root; for processes that a test keeps running. */
export function enterDebianRoot(
  { directory }: DebianRoot,
  command: string,
  args: readonly string[],
): { readonly command: string; readonly args: string[] } {
  const shared = [tmpdir(), CHECKOUT.replace(/\/$/, ""), path.dirname(process.execPath)];
  // A folder inside another shared one is there already.
  const binds = shared.filter((it) => !shared.some((other) => it.startsWith(`${other}/`)));
  for (const bind of binds) mkdirSync(path.join(directory, bind), { recursive: true });
  const asRoot = process.getuid?.() === 0 ? [] : ["--map-root-user"];
  return {
    command: "unshare",
    args: [
      ...asRoot,
      ...["--mount", "--pid", "--fork", "--kill-child"],
      ...["/bin/sh", "-c", ENTER, "sh", directory, ...binds, "--", command, ...args],
    ],
  };
}

function lookFor(suite: DebianSuite): DebianRoot | string {
  const directory = path.join(toolsDirectory(), `debian-${suite}`);
  let versions: Record<string, string>;
  try {
    versions = readVersions(path.join(directory, "versions.json"));
  } catch {
    return missingToolReason(`Debian ${suite}`) ?? "`pnpm tools` brings it";
  }
  const root = { suite, directory, versions };
  const { command, args } = enterDebianRoot(root, "/bin/true", []);
  try {
    execFileSync(command, args, { cwd: tmpdir(), stdio: "ignore" });
    return root;
  } catch {
    return "this user may not enter a root directory: neither root nor user namespaces";
  }
}

function readVersions(file: string): Record<string, string> {
  const value: unknown = JSON.parse(readFileSync(file, "utf8"));
  return Object.fromEntries(
    Object.entries(value ?? {}).map(([name, version]) => [name, String(version)]),
  );
}
