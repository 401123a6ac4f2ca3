import { randomUUID } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";

import type { NixVersion } from "./find-nix-versions.ts";
import { type CommandOptions, type CommandResult, runCommand } from "./run-command.ts";
import { createTemporaryDirectory } from "./temporary-directory.ts";

/** One line of a netrc file. */
export interface NetrcEntry {
  /** The host without its port, as netrc has it; default `127.0.0.1`. */
  readonly machine?: string;
  /** Any name will do for our server; default `flywheel`. */
  readonly login?: string;
  /** The token. */
  readonly password: string;
}

/** What a sandbox's `nix.conf` and netrc say beyond what building offline needs. */
export interface NixSettings {
  /** Public keys, `name:base64`; nothing else is trusted. */
  readonly trustedKeys?: readonly string[];
  /** URLs of caches that Nix asks on its own; default none. */
  readonly substituters?: readonly string[];
  readonly netrc?: readonly NetrcEntry[];
  /** Further lines of nix.conf. */
  readonly extra?: Readonly<Record<string, string>>;
}

/** How a sandbox starts; every setting can be changed with {@link NixSandbox.configure}. */
export interface NixSandboxOptions extends NixSettings {
  /** Environment variables for every command. */
  readonly env?: Readonly<Record<string, string>>;
}

/** What {@link NixSandbox.run} takes beside the command. */
type SandboxCommandOptions = Omit<CommandOptions, "env"> & {
  readonly env?: Readonly<Record<string, string>>;
};

/**
 * One Nix version with a home, a narinfo cache and a configuration of its own.
 *
 * It builds into the machine's `/nix/store`, where building needs no sandbox, and substitutes into
 * private stores, where nothing is present yet.
 */
export interface NixSandbox extends AsyncDisposable {
  readonly nix: NixVersion;
  /** Everything the sandbox owns lies under this folder. */
  readonly directory: string;
  readonly home: string;
  readonly confDirectory: string;
  /** An empty private store, for `--store`. More of them: {@link NixSandbox.createStore}. */
  readonly store: string;
  /** The environment of every command. */
  readonly env: Readonly<Record<string, string>>;

  /** Runs a command, `nix` or another, and returns what it said; never throws for its exit status. */
  run(
    command: string,
    args: readonly string[],
    options?: SandboxCommandOptions,
  ): Promise<CommandResult>;
  /** Runs a command and returns its trimmed standard output. @throws {Error} when it fails. */
  output(
    command: string,
    args: readonly string[],
    options?: SandboxCommandOptions,
  ): Promise<string>;
  /** Replaces `nix.conf` and netrc: what is not named returns to its default. */
  configure(settings: NixSettings): Promise<void>;
  /**
   * Builds a Nix expression into the machine's store, offline, and returns its store path.
   *
   * The expression may call `mkPath { name, script, deps ? [] }`, whose script runs in `/bin/sh` and
   * writes `$out`. Its `unique` is different each time, so that nothing built before is reused.
   */
  buildPath(
    expression: string,
    options?: { readonly env?: Readonly<Record<string, string>> },
  ): Promise<string>;
  /** Creates another empty private store and returns its root folder. */
  createStore(): Promise<string>;
  /** Where a store path of a private store lies on disk. */
  realPath(storePath: string, store?: string): string;
  /**
   * Brings a path and its closure from one cache into a private store, signatures checked as
   * configured; never throws for a failure.
   */
  substitute(
    storePath: string,
    options: { readonly from: string; readonly store?: string },
  ): Promise<CommandResult>;
}

/** Creates an isolated Nix; use it with `await using`. */
export async function createNixSandbox(
  nix: NixVersion,
  options: NixSandboxOptions = {},
): Promise<NixSandbox> {
  const temporary = await createTemporaryDirectory(`flywheel-nix-${nix.version}-`);
  const directory = temporary.path;
  const [home, confDirectory] = [path.join(directory, "home"), path.join(directory, "conf")];
  for (const folder of [home, confDirectory, path.join(directory, "tmp")]) await mkdir(folder);
  const env: Readonly<Record<string, string>> = {
    PATH: [nix.binDirectory, process.env["PATH"]].join(path.delimiter),
    HOME: home,
    USER: process.env["USER"] ?? "root",
    LANG: "C.UTF-8",
    TMPDIR: path.join(directory, "tmp"),
    XDG_CACHE_HOME: path.join(home, ".cache"),
    XDG_CONFIG_HOME: path.join(home, ".config"),
    XDG_DATA_HOME: path.join(home, ".local", "share"),
    XDG_STATE_HOME: path.join(home, ".local", "state"),
    NIX_CONF_DIR: confDirectory,
    NIX_USER_CONF_FILES: "",
    NIX_REMOTE: "",
    ...options.env,
  };
  const built: string[] = [];
  let storeCount = 0;

  const sandbox: NixSandbox = {
    nix,
    directory,
    home,
    confDirectory,
    store: await createStore(),
    env,
    run(command, args, runOptions = {}) {
      return runCommand(command, args, {
        cwd: directory,
        ...runOptions,
        env: { ...env, ...runOptions.env },
      });
    },
    async output(command, args, runOptions) {
      const { status, stdout, stderr } = await sandbox.run(command, args, runOptions);
      if (status === 0) return stdout.trim();
      throw new Error(`${command} ${args.join(" ")} ended with ${status}: ${stderr}`);
    },
    configure: (settings) => configure(confDirectory, settings),
    async buildPath(expression, buildOptions) {
      const text = `${MAKE_PATH} unique = "${randomUUID()}"; in ${expression}`;
      const storePath = await sandbox.output(
        "nix-build",
        ["--no-out-link", "--expr", text],
        buildOptions,
      );
      built.push(storePath);
      return storePath;
    },
    createStore,
    realPath: (storePath, store = sandbox.store) => path.join(store, storePath),
    substitute(storePath, { from, store = sandbox.store }) {
      return sandbox.run("nix-store", [
        "--store",
        store,
        "--realise",
        storePath,
        "--option",
        "substituters",
        from,
      ]);
    },
    async [Symbol.asyncDispose]() {
      // Newest first, as a path cannot go before those that refer to it; what still cannot go may stay.
      for (const storePath of built.toReversed()) {
        await sandbox.run("nix-store", ["--delete", storePath]);
      }
      await temporary[Symbol.asyncDispose]();
    },
  };
  await sandbox.configure(options);
  return sandbox;

  async function createStore(): Promise<string> {
    storeCount += 1;
    const store = path.join(directory, `store-${storeCount}`);
    await mkdir(store);
    return store;
  }
}

/** An offline builder, and a value that makes each build a new one. */
const MAKE_PATH = `let
  mkPath = { name, script, deps ? [ ] }: builtins.derivation {
    inherit name deps unique;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    PATH = "/usr/bin:/bin";
    args = [ "-c" script ];
  };`;

async function configure(confDirectory: string, settings: NixSettings): Promise<void> {
  const lines: Record<string, string> = {
    sandbox: "false",
    "build-users-group": "",
    "experimental-features": "nix-command flakes",
    substituters: (settings.substituters ?? []).join(" "),
    "trusted-public-keys": (settings.trustedKeys ?? []).join(" "),
    "connect-timeout": "5",
    "download-attempts": "1",
    ...settings.extra,
  };
  const text = Object.entries(lines).map(([name, value]) => `${name} = ${value}\n`);
  await writeFile(path.join(confDirectory, "nix.conf"), text.join(""));
  const netrc = (settings.netrc ?? []).map(
    ({ machine = "127.0.0.1", login = "flywheel", password }) =>
      `machine ${machine}\nlogin ${login}\npassword ${password}\n`,
  );
  await writeFile(path.join(confDirectory, "netrc"), netrc.join("\n"), { mode: 0o600 });
}
