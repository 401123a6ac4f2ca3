import { CacheError } from "@glorious/core";

import { runProgram } from "../run-program.ts";

/** A Bazel release. */
export interface BazelRelease {
  readonly major: number;
  readonly minor: number;
}

/** The oldest Bazel whose options we know. */
const OLDEST: BazelRelease = { major: 4, minor: 0 };

/**
 * Reads a version such as `7.7.1`, `7.7.1-pre.2` or `8`.
 *
 * @throws {CacheError} `INVALID` when it is none, `UNSUPPORTED` when it is older than Bazel 4.
 */
export function parseBazelRelease(text: string): BazelRelease {
  const match = /^(\d{1,4})(?:\.(\d{1,4}))?(?:[.-].*)?$/.exec(text.trim());
  if (match === null) {
    throw new CacheError("INVALID", `${JSON.stringify(text)} is no version of Bazel`, {
      hint: "Write it as in 7.7.1.",
    });
  }
  const release = { major: Number(match[1]), minor: Number(match[2] ?? 0) };
  if (isAtLeast(release, OLDEST.major, OLDEST.minor)) return release;
  throw new CacheError("UNSUPPORTED", `Bazel ${text.trim()} is older than Bazel ${OLDEST.major}`, {
    hint: "Upgrade Bazel, or set --remote_cache yourself.",
  });
}

/** A release as Bazel writes it. */
export function formatBazelRelease({ major, minor }: BazelRelease): string {
  return `${major}.${minor}`;
}

/** Whether the release has what came with the one given. */
export function isAtLeast(release: BazelRelease, major: number, minor: number): boolean {
  return release.major > major || (release.major === major && release.minor >= minor);
}

/**
 * Asks a Bazel for its version, without starting its server.
 *
 * @throws {CacheError} `CONFIG` when it cannot be run or does not say.
 */
export async function askBazelRelease(
  bazel: string,
  run: {
    readonly env: Readonly<Record<string, string | undefined>>;
    readonly cwd: string;
    readonly signal: AbortSignal;
  },
): Promise<BazelRelease> {
  const hint = "Name it with --bazel, or its version with --bazel-version 7.7.1.";
  // A launcher may fetch the very Bazel that the workspace asks for.
  const output = await runProgram(bazel, ["--version"], { ...run, timeoutMs: 60_000 }).catch(
    (error: unknown) => {
      if (run.signal.aborted) throw error;
      const { message } = error as Error;
      throw new CacheError("CONFIG", message, { cause: error, hint });
    },
  );
  const version = /^bazel (\d\S*)/m.exec(output.stdout)?.[1];
  if (version === undefined) {
    throw new CacheError("CONFIG", `${bazel} --version does not say which Bazel it is`, { hint });
  }
  return parseBazelRelease(version);
}
