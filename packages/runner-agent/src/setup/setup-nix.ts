import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { get, type IncomingMessage } from "node:http";

import { CacheError, describeError } from "@glorious/core";

import type { SessionFiles } from "../session/session-files.ts";
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
export function planNix(
  nix: NixFacts,
  request: Pick<SetupRequest, "pushMode" | "configureSubstituter">,
  canPush: boolean,
): NixPlan {
  const warnings: SetupWarning[] = [];
  if (!nix.isTrusted) warnings.push(describeDistrust(nix));
  const plan = {
    canSubstitute: nix.isTrusted && request.configureSubstituter,
    pushMode: request.pushMode === "auto" ? ("hook" as const) : request.pushMode,
    warnings,
  };
  if (!canPush) return { ...plan, pushMode: "none" };
  return plan.pushMode === "hook" ? withoutHook(plan, findHookTrouble(nix), request) : plan;
}

/** The plan after something was found to be in the way of a hook; the very plan when nothing was. */
export function withoutHook(
  plan: NixPlan,
  trouble: string | undefined,
  { pushMode }: Pick<SetupRequest, "pushMode">,
): NixPlan {
  if (trouble === undefined) return plan;
  const message = `Paths are pushed at the end of the job: ${trouble}.`;
  const warnings =
    pushMode === "hook" ? [...plan.warnings, { code: "no-hook", message }] : plan.warnings;
  return { ...plan, pushMode: "store-diff", warnings };
}

/** What a daemon ignores, and what its machine's operator can do. */
function describeDistrust({ user }: NixFacts): SetupWarning {
  return {
    code: "untrusted-user",
    message: `The Nix daemon does not trust the user ${user}: it would ignore the cache's address and key, so Nix does not use the cache.`,
    hint: `trusted-users = root ${user}`,
  };
}

function findHookTrouble(nix: NixFacts): string | undefined {
  if (!nix.isTrusted) return "the Nix daemon does not trust this user";
  if (nix.postBuildHook !== undefined) return "Nix has a post-build-hook of its own";
  return undefined;
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
 * Writes the session's nix.conf, then sees whether Nix heeds it and the face answers.
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
  const text = formatNixConf({ ...conf, hook: hasHook ? files.hook : undefined });
  await writeFile(files.nixConf, text, { mode: 0o600 });
  const environment = { NIX_USER_CONF_FILES: prependUserConf(files.nixConf, env) };
  await Promise.all([
    requireHeeded(conf, nix, { env: { ...env, ...environment }, signal }),
    conf.substituter === undefined ? undefined : probeFace(conf.substituter, nix, signal),
  ]);
  return environment;
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
  let text = "";
  try {
    // Not `fetch`, which takes 35 ms of a processor for the first request of a process.
    const asked = get(`${substituter}/nix-cache-info`, {
      signal: AbortSignal.any([signal, AbortSignal.timeout(PROBE_MS)]),
    });
    const [answer] = (await once(asked, "response")) as [IncomingMessage];
    for await (const chunk of answer.setEncoding("utf8")) text += String(chunk);
  } catch (cause) {
    throw new CacheError("UNAVAILABLE", `The agent does not answer Nix: ${describeError(cause)}`, {
      cause,
    });
  }
  if (text.split("\n").includes(`StoreDir: ${storeDir}`)) return;
  throw new CacheError("CONFIG", `The cache is not for the store ${storeDir}`);
}
