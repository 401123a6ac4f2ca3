import { randomUUID } from "node:crypto";
import { rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { besideNix, runProgram } from "@glorious/cache-client";

import type { SessionFiles } from "../session/session-files.ts";
import { formatHookScript } from "../uploads/hook-script.ts";
import type { NixFacts } from "./detect-nix.ts";
import { formatNixConf, prependUserConf } from "./nix-conf.ts";

/** How long a trial may take. */
const TRIAL_MS = 10_000;

/** The world of a trial. */
interface TrialContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly signal: AbortSignal;
}

/**
 * Writes a session's hook and runs it once: one that cannot be run would fail every build.
 *
 * @returns What is in the way; `undefined` when it works. Never rejects.
 */
export async function writeHook(
  files: SessionFiles,
  { signal }: Pick<TrialContext, "signal">,
): Promise<string | undefined> {
  try {
    await writeFile(files.hook, formatHookScript(files.queue), { mode: 0o700 });
    const alone = await runProgram(files.hook, [], { signal, timeoutMs: TRIAL_MS, env: {} });
    if (alone.exitCode === 0) return undefined;
  } catch {
    // As if it had failed.
  }
  return `programs in ${files.folder} cannot be run`;
}

/**
 * Tries whether Nix can run the hook that was written. A daemon may see other files than this user does, so there a
 * derivation that takes no time is built with a hook of the same kind.
 *
 * @returns What is in the way; `undefined` when it works.
 */
export async function tryHook(
  nix: NixFacts,
  files: SessionFiles,
  context: TrialContext,
): Promise<string | undefined> {
  if (!nix.isDaemon) return undefined;
  const run = { signal: context.signal, timeoutMs: TRIAL_MS };
  const hook = join(files.folder, "trial-hook");
  const queue = join(files.folder, "trial-queue");
  const conf = join(files.folder, "trial.conf");
  try {
    await writeFile(hook, formatHookScript(queue), { mode: 0o700 });
    await writeFile(conf, formatNixConf({ publicKeys: [], hook }));
    await runProgram(
      besideNix(nix.command, "nix-build"),
      ["--no-out-link", "--option", "substitute", "false", "--expr", makeTrial(randomUUID())],
      { ...run, env: { ...context.env, NIX_USER_CONF_FILES: prependUserConf(conf, context.env) } },
    );
    const noted = await stat(queue).catch(() => undefined);
    return noted === undefined || noted.size === 0 ? "the Nix daemon cannot run a hook" : undefined;
  } catch {
    return "the Nix daemon could not be tried";
  } finally {
    for (const file of [hook, queue, conf]) await rm(file, { force: true });
  }
}

function makeTrial(unique: string): string {
  return `builtins.derivation {
  name = "flywheel-hook-trial";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  args = [ "-c" "echo > $out" ];
  unique = "${unique}";
}`;
}
