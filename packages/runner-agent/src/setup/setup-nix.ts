import { stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";

import { runProgram } from "@glorious/cache-client";
import { CacheError, describeError } from "@glorious/core";

import { hasProcess } from "../session/process-identity.ts";
import type { SessionFiles } from "../session/session-files.ts";
import { formatHookScript } from "../uploads/hook-script.ts";
import { type NixFacts, readNixSettings } from "./detect-nix.ts";
import { formatNixConf, prependUserConf } from "./nix-conf.ts";
import type { PushMode, SetupRequest, SetupWarning } from "./setup-request.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** What the machine's Nix allows. */
export interface NixPlan {
  readonly canSubstitute: boolean;
  readonly pushMode: PushMode;
  readonly warnings: readonly SetupWarning[];
}

/**
 * Decides how Nix is used: a hook where Nix heeds one, and the difference of the store before and after where it does
 * not.
 */
export async function planNix(
  nix: NixFacts,
  request: Pick<SetupRequest, "pushMode" | "configureSubstituter">,
  canPush: boolean,
): Promise<NixPlan> {
  const warnings: SetupWarning[] = [];
  if (!nix.isTrusted) warnings.push(describeDistrust(nix));
  const hookTrouble = await findHookTrouble(nix);
  const wanted = request.pushMode === "auto" ? "hook" : request.pushMode;
  const pushMode = !canPush ? "none" : wanted === "hook" && hookTrouble ? "store-diff" : wanted;
  if (canPush && hookTrouble !== undefined && request.pushMode === "hook") {
    const message = `Paths are pushed at the end of the job: ${hookTrouble}.`;
    warnings.push({ code: "no-hook", message });
  }
  return { canSubstitute: nix.isTrusted && request.configureSubstituter, pushMode, warnings };
}

/** What a daemon ignores, and what its machine's operator can do. */
function describeDistrust({ user }: NixFacts): SetupWarning {
  return {
    code: "untrusted-user",
    message: `The Nix daemon does not trust the user ${user}: it would ignore the cache's address and key, so Nix does not use the cache.`,
    hint: `trusted-users = root ${user}`,
  };
}

async function findHookTrouble(nix: NixFacts): Promise<string | undefined> {
  if (!nix.isTrusted) return "the Nix daemon does not trust this user";
  if (nix.postBuildHook !== undefined) return "Nix has a post-build-hook of its own";
  // A daemon outside of this container would not find the hook, and fail every build for it.
  const mayBeOutside = nix.isDaemon && (await isContainer()) && !(await hasProcess("nix-daemon"));
  return mayBeOutside ? "the Nix daemon may run outside of this container" : undefined;
}

async function isContainer(): Promise<boolean> {
  const marks = ["/.dockerenv", "/run/.containerenv"].map((file) => stat(file));
  return Promise.any(marks).then(
    () => true,
    () => false,
  );
}

/** What {@link configureNix} writes. */
export interface NixConfiguration {
  /** The face's address; `undefined`: Nix reads nothing from us. */
  readonly substituter: string | undefined;
  readonly publicKeys: readonly string[];
  readonly priority: number | undefined;
  readonly pushMode: PushMode;
}

/** How long the face may take for its first answer. */
const PROBE_MS = 5000;

/**
 * Writes the session's nix.conf and, where it is wanted, the hook; then sees whether Nix heeds it and the face answers.
 *
 * @returns The environment that makes Nix read it.
 * @throws {CacheError} when it would not work. Then nothing points to the files.
 */
export async function configureNix(
  conf: NixConfiguration,
  nix: NixFacts,
  context: {
    readonly files: SessionFiles;
    readonly env: Environment;
    readonly signal: AbortSignal;
  },
): Promise<Readonly<Record<string, string>>> {
  const { files, env, signal } = context;
  const hasHook = conf.pushMode === "hook";
  if (conf.substituter === undefined && !hasHook) return {};
  if (hasHook) {
    await writeFile(files.hook, formatHookScript(files.queue), { mode: 0o700 });
    await requireRunnable(files.hook, signal);
  }
  const text = formatNixConf({ ...conf, hook: hasHook ? files.hook : undefined });
  await writeFile(files.nixConf, text, { mode: 0o600 });
  const environment = { NIX_USER_CONF_FILES: prependUserConf(files.nixConf, env) };
  await Promise.all([
    requireHeeded(conf, nix, { env: { ...env, ...environment }, signal }),
    conf.substituter === undefined ? undefined : probeFace(conf.substituter, nix, signal),
  ]);
  return environment;
}

/** A hook that cannot be run fails every build. */
async function requireRunnable(hook: string, signal: AbortSignal): Promise<void> {
  const { exitCode } = await runProgram(hook, [], { env: {}, signal, timeoutMs: PROBE_MS });
  if (exitCode === 0) return;
  throw new CacheError("CONFIG", `Programs in ${dirname(hook)} cannot be run`, {
    hint: "Let RUNNER_TEMP be on a file system without noexec, or set push-mode to store-diff.",
  });
}

/** Something else, such as NIX_CONFIG, may override what we wrote. */
async function requireHeeded(
  { substituter, publicKeys }: NixConfiguration,
  nix: NixFacts,
  run: { readonly env: Environment; readonly signal: AbortSignal },
): Promise<void> {
  if (substituter === undefined) return;
  const settings = await readNixSettings(nix.command, { ...run, timeoutMs: PROBE_MS });
  const has = (name: string, words: readonly string[]): boolean => {
    const set = new Set((settings.get(name) ?? "").split(" ").map((word) => word.split("?")[0]));
    return words.every((word) => set.has(word.split("?")[0]));
  };
  if (has("substituters", [substituter]) && has("trusted-public-keys", publicKeys)) return;
  throw new CacheError("CONFIG", "Nix does not heed the settings that were written for it", {
    hint: "NIX_CONFIG or a nix.conf of the runner sets substituters or trusted-public-keys anew.",
  });
}

async function probeFace(
  substituter: string,
  { storeDir }: NixFacts,
  signal: AbortSignal,
): Promise<void> {
  let text: string;
  try {
    const answer = await fetch(`${substituter}/nix-cache-info`, {
      signal: AbortSignal.any([signal, AbortSignal.timeout(PROBE_MS)]),
    });
    text = answer.ok ? await answer.text() : "";
  } catch (cause) {
    throw new CacheError("UNAVAILABLE", `The agent does not answer Nix: ${describeError(cause)}`, {
      cause,
    });
  }
  if (text.split("\n").includes(`StoreDir: ${storeDir}`)) return;
  throw new CacheError("CONFIG", `The cache is not for the store ${storeDir}`);
}
