import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import {
  NIX_COMMAND,
  runProgram,
  type RunProgramOptions,
  whatNixSaid,
} from "@glorious/cache-client";

import type { VerifyFacts } from "../snapshot.ts";

/**
 * Lets Nix itself fetch a path's narinfo and NAR from a cache and verify hash and signature, with the
 * user's own settings, but with an empty memory of narinfos that is thrown away.
 *
 * @throws {CacheError} when Nix does not end in time.
 */
export async function verifyWithNix(
  nix: string,
  question: {
    readonly substituter: string;
    readonly storePath: string;
    readonly requireSignatures: boolean;
  },
  run: RunProgramOptions,
): Promise<VerifyFacts> {
  const folder = await mkdtemp(join(tmpdir(), "flywheel-doctor-"));
  try {
    const output = await runProgram(
      nix,
      [
        ...NIX_COMMAND,
        "store",
        "verify",
        "--store",
        question.substituter,
        ...(question.requireSignatures ? [] : ["--no-trust"]),
        question.storePath,
      ],
      { ...run, env: { ...run.env, XDG_CACHE_HOME: folder } },
    );
    return { exitCode: output.exitCode, said: output.exitCode === 0 ? "" : whatNixSaid(output) };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
