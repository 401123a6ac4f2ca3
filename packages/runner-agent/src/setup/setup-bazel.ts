import { readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import {
  applyChanges,
  askBazelRelease,
  type BazelRelease,
  formatBazelRc,
  formatRcImport,
  isAtLeast,
  keepChanged,
  parseBazelRelease,
  parseRcImport,
  readBlockLines,
  readState,
  rewriteBlock,
} from "@glorious/cache-client";
import { CacheError, describeError, quoteShell } from "@glorious/core";

import { findRunningSession } from "../agent/start-agent.ts";
import { type SessionFiles, sessionFiles } from "../session/session-files.ts";
import { writeSessionFile } from "../session/session-state.ts";
import { findInPath } from "./find-in-path.ts";
import type { BazelRequest, SetupResult, SetupWarning } from "./setup-request.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** What {@link configureBazel} writes about. */
export interface BazelConfiguration {
  readonly request: BazelRequest;
  /** Which Bazel it is for. */
  readonly release: () => Promise<BazelRelease>;
  /** The face's addresses. */
  readonly face: { readonly grpc: string; readonly http: string };
  /** What the face wants to be shown. */
  readonly secret: string;
  readonly instanceName: string;
  readonly canPush: boolean;
}

/** What was configured. */
export interface ConfiguredBazel {
  readonly bazel: NonNullable<SetupResult["bazel"]>;
  readonly warnings: readonly SetupWarning[];
}

const RC_HEAD = "# `flywheel setup` wrote this for one job.\n";
/** The owner of our block in the user's rc file. */
const OWNER = "flywheel setup";
/** A launcher may want to fetch a Bazel first: that is not waited for. */
const VERSION_MS = 5000;
/** The agent has the deadlines, 30 s at most: what Bazel gave up before would be a warning in its build. */
const REMOTE_TIMEOUT_SECONDS = 60;

/**
 * Writes the session's rc file for the Bazel that is here, and a line that brings it in, where that is wanted.
 *
 * @throws {CacheError} when it cannot be told which Bazel it is: an option that it does not know would fail builds.
 */
export async function configureBazel(
  { request, release: findRelease, face, secret, instanceName, canPush }: BazelConfiguration,
  context: { readonly files: SessionFiles; readonly env: Environment },
): Promise<ConfiguredBazel> {
  const { files, env } = context;
  if (request.rc === "none") return { bazel: { remoteCache: face.http }, warnings: [] };
  const release = await findRelease();
  const hasHelper = isAtLeast(release, 7, 0);
  if (hasHelper) await writeHelper(files, secret);
  const rc = formatBazelRc({
    release,
    remoteCache: face.grpc,
    instanceName,
    mayPush: canPush,
    isCompressed: request.compression,
    credentialHelper: hasHelper ? files.credentialHelper : undefined,
    header: hasHelper ? undefined : `authorization=Bearer ${secret}`,
    download: request.download,
    timeoutSeconds: request.remoteTimeoutSeconds ?? REMOTE_TIMEOUT_SECONDS,
    configName: request.configName,
  });
  // At once or not at all: a Bazel may be reading it.
  await writeSessionFile(files.bazelrc, `${RC_HEAD}${rc}`);
  const warnings = request.rc === "user" ? await offerToUser(files, env) : [];
  return {
    bazel: {
      rcPath: files.bazelrc,
      remoteCache: face.grpc,
      ...(hasHelper && { credentialHelper: files.credentialHelper }),
    },
    warnings,
  };
}

/**
 * Makes the place for what {@link configureBazel} will write, for as long as that is not known: an rc file that says
 * nothing, which Bazel reads again for each command.
 */
export async function reserveBazelRc(
  { rc }: BazelRequest,
  { files, env }: { readonly files: SessionFiles; readonly env: Environment },
): Promise<readonly SetupWarning[]> {
  if (rc === "none") return [];
  await writeSessionFile(files.bazelrc, RC_HEAD);
  return rc === "user" ? offerToUser(files, env) : [];
}

/** Whether there is a Bazel to configure, or at least its version. */
export async function hasBazel(
  { rc, bazelVersion }: BazelRequest,
  { env, workspace }: { readonly env: Environment; readonly workspace: string },
): Promise<boolean> {
  if (rc === "none" || bazelVersion !== undefined) return true;
  if ((await readPinnedVersion(workspace)) !== undefined) return true;
  return (await findInPath("bazel", env)) !== undefined;
}

/** What `.bazelversion` says; it may also be a word such as `latest`, which only the launcher understands. */
async function readPinnedVersion(workspace: string): Promise<string | undefined> {
  const text = await readFile(join(workspace, ".bazelversion"), "utf8").catch(() => "");
  const [line = ""] = text.trim().split("\n");
  return /^\d+(\.\d+)*(-[a-z0-9.]+)?$/.test(line) ? line : undefined;
}

/**
 * Which Bazel the job uses: as it says itself, as `.bazelversion` says, or as Bazel says when it is asked.
 *
 * @throws {CacheError} `CONFIG` when it cannot be told.
 */
export async function findBazelRelease(
  { bazelVersion }: BazelRequest,
  context: { readonly env: Environment; readonly workspace: string; readonly signal: AbortSignal },
): Promise<BazelRelease> {
  if (bazelVersion !== undefined) return parseBazelRelease(bazelVersion);
  const pinned = await readPinnedVersion(context.workspace);
  if (pinned !== undefined) return parseBazelRelease(pinned);
  const limit = AbortSignal.timeout(VERSION_MS);
  try {
    return await askBazelRelease("bazel", {
      env: context.env,
      cwd: context.workspace,
      signal: AbortSignal.any([context.signal, limit]),
    });
  } catch (cause) {
    throw new CacheError("CONFIG", "It cannot be told which Bazel this job uses", {
      cause,
      hint: "Name its version with the input bazel-version, or in .bazelversion.",
    });
  }
}

/** Bazel waits for it: the shell's own commands, and whatever goes wrong, an answer. */
async function writeHelper(files: SessionFiles, secret: string): Promise<void> {
  const answer = JSON.stringify({ headers: { Authorization: [`Bearer ${secret}`] } });
  await writeFile(files.credential, `${answer}\n`, { mode: 0o600 });
  const script = `#!/bin/sh
read -r answer 2>/dev/null <${quoteShell(files.credential)} || answer='{"headers":{}}'
printf '%s\\n' "$answer"
`;
  await writeFile(files.credentialHelper, script, { mode: 0o700 });
}

/** Bazel looks at the variable alone: without it there is no such file for it, whoever the user is. */
function userRcPath(env: Environment): string | undefined {
  const home = env["HOME"] ?? "";
  return home === "" ? undefined : join(home, ".bazelrc");
}

function offerToUser(files: SessionFiles, env: Environment): Promise<readonly SetupWarning[]> {
  return addToUserRc(files, env).catch((error: unknown) => [
    noHome(files, `${userRcPath(env)} cannot be written (${describeError(error)})`),
  ]);
}

/** A home that two jobs share has one rc file: the other's is left alone, or each would read through the other's agent. */
async function addToUserRc(files: SessionFiles, env: Environment): Promise<SetupWarning[]> {
  const path = userRcPath(env);
  if (path === undefined) return [noHome(files, "There is no HOME")];
  const userRc = await readState(path);
  const [imported] = (readBlockLines(userRc, OWNER) ?? []).flatMap(
    (line) => parseRcImport(line) ?? [],
  );
  const other = imported === undefined ? undefined : dirname(imported);
  if (other !== undefined && other !== files.folder) {
    if ((await findRunningSession(sessionFiles(other))) !== undefined) {
      return [
        {
          code: "shared-bazelrc",
          message: `${path} belongs to another job that runs now: Bazel does not use the cache by itself.`,
          hint: `bazel --bazelrc=${quoteShell(files.bazelrc)} build …`,
        },
      ];
    }
  }
  await replaceBlock(path, [formatRcImport(files.bazelrc)]);
  return [];
}

function noHome(files: SessionFiles, why: string): SetupWarning {
  return {
    code: "no-home",
    message: `${why}, so Bazel does not use the cache by itself.`,
    hint: `bazel --bazelrc=${quoteShell(files.bazelrc)} build …`,
  };
}

/** Takes the session's line out of the user's rc file again; what else is there stays as it is, byte for byte. */
export async function removeFromUserRc(files: SessionFiles, env: Environment): Promise<void> {
  const path = userRcPath(env);
  if (path === undefined) return;
  const lines = readBlockLines(await readState(path), OWNER);
  if (lines?.includes(formatRcImport(files.bazelrc)) === true) await replaceBlock(path, []);
}

async function replaceBlock(path: string, lines: readonly string[]): Promise<void> {
  const file = await readState(path);
  const text = rewriteBlock(file, lines, { owner: OWNER, place: "bottom" });
  await applyChanges(keepChanged([[file, text, { isSecret: false }]]));
}
