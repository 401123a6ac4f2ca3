import { rm, writeFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { join } from "node:path";

import { NIX_COMMAND, runProgram, whatNixSaid } from "@glorious/cache-client";
import { CacheError } from "@glorious/core";

import { findInPath } from "./find-in-path.ts";
import { formatNixConf, prependUserConf } from "./nix-conf.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** The Nix of a machine, as far as configuring it needs. */
export interface NixFacts {
  /** The full path of `nix`. */
  readonly command: string;
  /** Commands go to a daemon, which heeds some settings from those only whom it trusts. */
  readonly isDaemon: boolean;
  readonly isTrusted: boolean;
  readonly user: string;
  readonly storeDir: string;
  /** Somebody's own hook, which Nix would not run beside ours. */
  readonly postBuildHook: string | undefined;
  /** Whether Nix heeds what a file of ours adds. Something else, such as NIX_CONFIG, may override it. */
  readonly heedsConf: boolean;
}

/** What a file of ours adds, when it is not known yet what that will be. */
const TRIAL = {
  substituter: "http://127.0.0.1:9/flywheel-trial",
  publicKeys: ["flywheel-trial:AA=="],
};

/** Nix answers within a second; a daemon that does not come up is not waited for. */
const NIX_TIMEOUT_MS = 10_000;

/**
 * Looks at the machine's Nix: one question about the store, one about the settings, at the same time.
 *
 * @param folder - Where a file is put for as long as the questions take.
 * @returns `undefined` when there is none in PATH.
 * @throws {CacheError} `CONFIG` when it does not work, `TIMEOUT`.
 */
export async function detectNix(
  env: Environment,
  folder: string,
  signal: AbortSignal,
): Promise<NixFacts | undefined> {
  const command = await findInPath("nix", env);
  if (command === undefined) return undefined;
  const run = { env, signal, timeoutMs: NIX_TIMEOUT_MS };
  const trial = join(folder, "asked.conf");
  await writeFile(trial, formatNixConf(TRIAL), { mode: 0o600 });
  const tried = { ...env, NIX_USER_CONF_FILES: prependUserConf(trial, env) };
  const [settings, store] = await Promise.all([
    readNixSettings(command, { ...run, env: tried }),
    readStore(command, run),
  ]);
  await rm(trial, { force: true });
  const isDaemon = store.url === "daemon" || store.url.startsWith("unix:");
  const user = userInfo().username;
  return {
    command,
    isDaemon,
    isTrusted: store.isTrusted ?? (!isDaemon || (await isNamedTrusted(user, settings, run))),
    user,
    storeDir: env["NIX_STORE_DIR"] ?? "/nix/store",
    postBuildHook: settings.get("post-build-hook") || undefined,
    heedsConf: heeds(settings),
  };
}

function heeds(settings: ReadonlyMap<string, string>): boolean {
  const has = (name: string, words: readonly string[]): boolean => {
    const set = new Set((settings.get(name) ?? "").split(" "));
    return words.every((word) => set.has(word));
  };
  return has("substituters", [TRIAL.substituter]) && has("trusted-public-keys", TRIAL.publicKeys);
}

interface RunNix {
  readonly env: Environment;
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
}

/** Nix's settings in force, as texts. @throws {CacheError} `CONFIG` when it does not tell. */
async function readNixSettings(command: string, run: RunNix): Promise<ReadonlyMap<string, string>> {
  let output = await runProgram(command, [...NIX_COMMAND, "show-config", "--json"], run);
  if (output.exitCode !== 0) {
    // Its name from 2.20 on, beside which the old one may go one day.
    output = await runProgram(command, [...NIX_COMMAND, "config", "show", "--json"], run);
  }
  if (output.exitCode !== 0) {
    throw new CacheError("CONFIG", `Nix does not tell its settings: ${whatNixSaid(output)}`);
  }
  const settings = new Map<string, string>();
  for (const [name, setting] of Object.entries(JSON.parse(output.stdout) as object)) {
    const { value } = setting as { readonly value?: string | number | boolean | string[] };
    settings.set(name, Array.isArray(value) ? value.join(" ") : `${value ?? ""}`);
  }
  return settings;
}

interface StoreFacts {
  readonly url: string;
  /** `undefined`: it does not say. */
  readonly isTrusted: boolean | undefined;
}

async function readStore(command: string, run: RunNix): Promise<StoreFacts> {
  const info = await runProgram(command, [...NIX_COMMAND, "store", "info", "--json"], run);
  if (info.exitCode === 0) {
    const { url, trusted } = JSON.parse(info.stdout) as { url?: unknown; trusted?: unknown };
    return {
      url: typeof url === "string" ? url : "",
      isTrusted: trusted === undefined || trusted === null ? undefined : Boolean(trusted),
    };
  }
  // Nix up to 2.18 calls it ping, and says nothing about trust.
  const ping = await runProgram(command, [...NIX_COMMAND, "store", "ping"], run);
  if (ping.exitCode !== 0) {
    throw new CacheError("CONFIG", `Nix cannot open its store: ${whatNixSaid(info)}`);
  }
  const url = /Store URL: (\S+)/.exec(ping.stderr + ping.stdout)?.[1] ?? "";
  const trusted = /^Trusted: (\d)/m.exec(ping.stderr + ping.stdout)?.[1];
  return { url, isTrusted: trusted === undefined ? undefined : trusted === "1" };
}

/** What a daemon that does not say whom it trusts would say, by the settings that it shares with its clients. */
async function isNamedTrusted(
  user: string,
  settings: ReadonlyMap<string, string>,
  run: RunNix,
): Promise<boolean> {
  const named = (settings.get("trusted-users") ?? "").split(" ");
  if (user === "root" || named.includes("*") || named.includes(user)) return true;
  const groups = await runProgram("id", ["-Gn"], run).catch(() => undefined);
  return (groups?.stdout ?? "")
    .trim()
    .split(" ")
    .some((group) => named.includes(`@${group}`));
}
