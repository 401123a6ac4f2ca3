import { readFile } from "node:fs/promises";

import { CacheError } from "@glorious/core";
import * as v from "valibot";

import type { Environment } from "./detect-forge.ts";

/** What the operator of a runner says to the jobs on it. */
export interface RunnerConfig {
  /** The server to use when the job names none. */
  readonly server?: string | undefined;
  /** What identity tokens are made for, when that is not the server's own address. */
  readonly audience?: string | undefined;
  /** The runner's own identity, such as a projected service account token; read anew at each use. */
  readonly identityTokenFile?: string | undefined;
}

const text = v.optional(v.pipe(v.string(), v.minLength(1)));
const Config = v.object({
  version: v.literal(1),
  server: text,
  audience: text,
  identityTokenFile: text,
});

/**
 * Reads the file that `FLYWHEEL_RUNNER_CONFIG` names; nothing when it names none. Unknown fields are ignored: an
 * image may be older than the file.
 *
 * @throws {CacheError} `CONFIG` when the file cannot be read or is malformed.
 */
export async function readRunnerConfig(env: Environment): Promise<RunnerConfig> {
  const file = env["FLYWHEEL_RUNNER_CONFIG"];
  if (file === undefined || file === "") return {};
  let json: unknown;
  try {
    json = JSON.parse(await readFile(file, "utf8"));
  } catch (cause) {
    throw malformed(file, "it cannot be read as JSON", cause);
  }
  const result = v.safeParse(Config, json);
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw malformed(file, `${v.getDotPath(issue) ?? "the document"}: ${issue.message}`, undefined);
}

function malformed(file: string, what: string, cause: unknown): CacheError {
  return new CacheError("CONFIG", `The runner's configuration ${file} is unusable: ${what}`, {
    cause,
    hint: "FLYWHEEL_RUNNER_CONFIG names it; its operator has to correct it.",
  });
}
