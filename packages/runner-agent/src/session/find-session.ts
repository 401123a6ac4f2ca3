import { CacheError } from "@glorious/core";

import { type SessionFiles, sessionFiles } from "./session-files.ts";

/** The variable by which a job's later steps find its session. */
export const SESSION_VARIABLE = "FLYWHEEL_SESSION";

type Environment = Readonly<Record<string, string | undefined>>;

/** The session's files, named or by the job's environment; `undefined` when neither names any. */
export function findSession(named: string | undefined, env: Environment): SessionFiles | undefined {
  const folder = named ?? env[SESSION_VARIABLE];
  return folder === undefined || folder === "" ? undefined : sessionFiles(folder);
}

/** @throws {CacheError} `NOT_FOUND` when there is no session. */
export function requireSession(named: string | undefined, env: Environment): SessionFiles {
  const files = findSession(named, env);
  if (files !== undefined) return files;
  throw new CacheError("NOT_FOUND", "There is no session of an agent", {
    hint: `Run \`flywheel setup\` first; its ${SESSION_VARIABLE} must be in the environment.`,
  });
}
