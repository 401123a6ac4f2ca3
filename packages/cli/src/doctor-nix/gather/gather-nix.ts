import { execFile } from "node:child_process";
import { userInfo } from "node:os";
import { promisify } from "node:util";

import {
  besideNix,
  NIX_COMMAND,
  runProgram,
  type RunProgramOptions,
  whatNixSaid,
} from "@glorious/cache-client";
import { DEFAULT_STORE_DIR } from "@glorious/nix-store";

import { attempt, notTried, type Probe } from "../../doctor/probe.ts";
import { type NixSettings, parseNixSettings } from "../nix-settings.ts";
import type { NixFacts, StoreFacts, UserFacts } from "../snapshot.ts";

/** Asks the Nix on this machine about itself, offline. */
export async function gatherNix(nix: string, run: RunProgramOptions): Promise<NixFacts> {
  const version = await attempt(async () => {
    const { stdout } = await runProgram(nix, ["--version"], run);
    const found = /(\d+\.\d+\S*)/.exec(stdout)?.[1];
    if (found === undefined) throw new Error(`${nix} --version tells no version`);
    return found;
  });
  if (version.state !== "known") {
    const missing = notTried("Nix is not there to be asked");
    return {
      command: nix,
      version,
      settings: missing,
      systemSettings: missing,
      store: missing,
      storeDir: DEFAULT_STORE_DIR,
    };
  }
  // What a daemon goes by: the machine's file alone.
  const systemEnv = { ...run.env, NIX_USER_CONF_FILES: "", NIX_CONFIG: "" };
  const [settings, systemSettings, store, storeDir] = await Promise.all([
    readSettings(nix, run),
    readSettings(nix, { ...run, env: systemEnv }),
    readStore(nix, run),
    readStoreDir(nix, run),
  ]);
  return { command: nix, version, settings, systemSettings, store, storeDir };
}

function readSettings(nix: string, run: RunProgramOptions): Promise<Probe<NixSettings>> {
  return attempt(async () => {
    // The first is the newer name, which older versions refuse.
    const newer = await runProgram(nix, [...NIX_COMMAND, "config", "show", "--json"], run);
    if (newer.exitCode === 0) return parseNixSettings(newer.stdout);
    const older = await runProgram(nix, [...NIX_COMMAND, "show-config", "--json"], run);
    if (older.exitCode === 0) return parseNixSettings(older.stdout);
    throw new Error(whatNixSaid(older));
  });
}

function readStore(nix: string, run: RunProgramOptions): Promise<Probe<StoreFacts>> {
  return attempt(async () => {
    const newer = await runProgram(nix, [...NIX_COMMAND, "store", "info", "--json"], run);
    if (newer.exitCode === 0) return parseStoreInfo(newer.stdout);
    const older = await runProgram(nix, [...NIX_COMMAND, "store", "ping"], run);
    if (older.exitCode !== 0) throw new Error(whatNixSaid(older));
    const read = (name: string): string | undefined =>
      new RegExp(`^${name}: (.+)$`, "m").exec(`${older.stdout}\n${older.stderr}`)?.[1];
    return { url: read("Store URL") ?? "", version: read("Version"), isTrusted: undefined };
  });
}

/** Reads `nix store info --json`; `trusted` is a number up to 2.26 and a boolean later. */
function parseStoreInfo(json: string): StoreFacts {
  const info = JSON.parse(json) as Readonly<Record<string, unknown>>;
  const { url, version, trusted } = info;
  return {
    url: typeof url === "string" ? url : "",
    version: typeof version === "string" ? version : undefined,
    isTrusted:
      typeof trusted === "boolean" || typeof trusted === "number" ? Boolean(trusted) : undefined,
  };
}

async function readStoreDir(nix: string, run: RunProgramOptions): Promise<string> {
  const command = besideNix(nix, "nix-instantiate");
  const args = ["--eval", "--store", "dummy://", "--expr", "builtins.storeDir"];
  const output = await runProgram(command, args, run).catch(() => undefined);
  const said = /^"(\/[^"]+)"\s*$/.exec(output?.stdout ?? "")?.[1];
  return said ?? run.env["NIX_STORE_DIR"] ?? DEFAULT_STORE_DIR;
}

/** The user's name and groups, as a daemon looks them up. */
export async function gatherUser(id: number | undefined): Promise<UserFacts> {
  const groups = await promisify(execFile)("id", ["-Gn"]).then(
    ({ stdout }) => stdout.trim().split(/\s+/),
    () => [],
  );
  try {
    return { id, name: userInfo().username, groups };
  } catch {
    // A user without an entry has no name that trusted-users could hold.
    return { id, name: "", groups };
  }
}
