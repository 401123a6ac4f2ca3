import { join } from "node:path";

import { readState } from "@glorious/cache-client";

import type { CliContext } from "../cli-context.ts";
import { configHome, homeFolder } from "../user-folders.ts";
import type { BazelFiles } from "./plan-use-bazel.ts";

/** Whose Bazel is configured. */
export type BazelScope = "user" | "system";

/** Where everything of `use bazel` lies. */
export interface BazelPaths {
  readonly userRc: string;
  readonly ownRc: string;
  readonly credentialHelper: string;
  readonly tokenFile: string;
  readonly netrc: string;
}

/** The files of a scope, whether they exist or not. */
export function bazelPaths(scope: BazelScope, context: CliContext): BazelPaths {
  const { env } = context;
  const isSystem = scope === "system";
  const own = isSystem ? "/etc/flywheel/bazel" : join(configHome(env), "flywheel", "bazel");
  return {
    userRc: isSystem ? "/etc/bazel.bazelrc" : join(homeFolder(env), ".bazelrc"),
    ownRc: join(own, "bazelrc"),
    credentialHelper: join(own, "credential-helper"),
    tokenFile: join(own, "token"),
    netrc: env["NETRC"] ?? join(homeFolder(env), ".netrc"),
  };
}

/** Reads the files as they are. */
export async function readBazelFiles(paths: BazelPaths): Promise<BazelFiles> {
  return {
    userRc: await readState(paths.userRc),
    ownRc: await readState(paths.ownRc),
    credentialHelper: await readState(paths.credentialHelper),
    tokenFile: await readState(paths.tokenFile),
    netrc: await readState(paths.netrc),
  };
}
