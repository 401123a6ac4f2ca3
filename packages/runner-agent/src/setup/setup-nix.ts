import { CacheError } from "@glorious/core";

import type { SessionFiles } from "../session/session-files.ts";
import { writeSessionFile } from "../session/session-state.ts";
import type { NixFacts } from "./detect-nix.ts";
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
  /** Of the view; `undefined` when nobody knows. */
  readonly storeDir: string | undefined;
  readonly priority: number | undefined;
  readonly pushMode: PushMode;
}

/**
 * Writes the session's nix.conf.
 *
 * @returns The environment that makes Nix read it.
 * @throws {CacheError} when Nix would not heed it, or has another store. Then nothing is written.
 */
export async function configureNix(
  conf: NixConfiguration,
  nix: NixFacts,
  context: {
    readonly files: SessionFiles;
    readonly env: Environment;
  },
): Promise<Readonly<Record<string, string>>> {
  const { files, env } = context;
  const hasHook = conf.pushMode === "hook";
  if (conf.substituter === undefined && !hasHook) return {};
  if (conf.substituter !== undefined && (conf.storeDir ?? nix.storeDir) !== nix.storeDir) {
    throw new CacheError("CONFIG", `The cache is not for the store ${nix.storeDir}`);
  }
  if (conf.substituter !== undefined && !nix.heedsConf) {
    throw new CacheError("CONFIG", "Nix does not heed the settings that were written for it", {
      hint: "NIX_CONFIG or a nix.conf of the runner sets substituters or trusted-public-keys anew.",
    });
  }
  const text = formatNixConf({ ...conf, hook: hasHook ? files.hook : undefined });
  // At once or not at all: a command of Nix may be reading it.
  await writeSessionFile(files.nixConf, text);
  const environment = { NIX_USER_CONF_FILES: prependUserConf(files.nixConf, env) };
  return environment;
}
