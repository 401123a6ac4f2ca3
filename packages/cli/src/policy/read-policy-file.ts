import { resolve } from "node:path";

import { CacheError } from "@glorious/core";
import { parseTrustPolicy, type PolicyCheck } from "@glorious/trust";

import type { CliContext } from "../cli-context.ts";
import { readOptionalFile } from "../read-file.ts";

/** Reads a text file of the user's. @throws {CacheError} `NOT_FOUND` when there is none. */
export async function readTextFile(file: string, context: CliContext): Promise<string> {
  const text = await readOptionalFile(resolve(context.workingDirectory, file), "utf8");
  if (text !== undefined) return text;
  throw new CacheError("NOT_FOUND", `The file ${file} does not exist`);
}

/** Reads and checks a policy. @throws {CacheError} `NOT_FOUND` when there is no such file. */
export async function readPolicyFile(file: string, context: CliContext): Promise<PolicyCheck> {
  return parseTrustPolicy(await readTextFile(file, context));
}
