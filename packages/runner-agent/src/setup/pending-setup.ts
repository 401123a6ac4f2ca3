import { rename, rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

import { CacheError } from "@glorious/core";
import * as v from "valibot";

import type { SessionFiles } from "../session/session-files.ts";
import {
  type AgentSettings,
  readSettings,
  readState,
  writeState,
} from "../session/session-state.ts";
import type { NixFacts } from "./detect-nix.ts";
import type { PushMode, SetupKind, SetupRequest } from "./setup-request.ts";

/** What a set-up that did not wait for the server leaves to its agent. */
export interface PendingSetup {
  /** Without its token. */
  readonly request: SetupRequest;
  readonly nix?: NixFacts | undefined;
  /** What came of the hook's trial. */
  readonly pushMode: PushMode;
  readonly workingDirectory: string;
}

// Setup and agent are of one version.
const isObject = (value: unknown): boolean => typeof value === "object" && value !== null;
const Pending: v.GenericSchema<PendingSetup> = v.object({
  request: v.custom<SetupRequest>(isObject),
  nix: v.optional(v.custom<NixFacts>(isObject)),
  pushMode: v.picklist(["hook", "store-diff", "none"]),
  workingDirectory: v.string(),
});

/** @throws {CacheError} `NOT_FOUND`, `CONFIG`. */
export function readPendingSetup(files: SessionFiles): Promise<PendingSetup> {
  return readState(files.pending, Pending);
}

/**
 * Takes it for oneself. Who has it is alone in changing what is written for the job, until it is written anew or the
 * server's answer is in the settings.
 *
 * @returns `undefined` when somebody else has it, or it is done with.
 */
export async function claimPendingSetup(files: SessionFiles): Promise<PendingSetup | undefined> {
  const claimed = `${files.pending}.claimed`;
  try {
    await rename(files.pending, claimed);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    return await readState(claimed, Pending);
  } finally {
    await rm(claimed, { force: true });
  }
}

/** A step of the job that adds to it is over within seconds. */
const CLAIM_MS = 5000;
/** To write what the server answered takes less. */
const REACHED_MS = 1000;
const POLL_MS = 20;

/** Takes it when nobody else has it. @throws {CacheError} `TIMEOUT` */
export async function waitForPendingSetup(
  files: SessionFiles,
  signal: AbortSignal,
): Promise<PendingSetup> {
  const found = await poll(CLAIM_MS, signal, () => claimPendingSetup(files));
  if (found !== undefined) return found;
  throw new CacheError("TIMEOUT", "A set-up of this job did not come to its end");
}

/** The settings once the server's answer is in them; `undefined` when it does not come in a moment. */
export function waitUntilReached(
  files: SessionFiles,
  signal: AbortSignal,
): Promise<AgentSettings | undefined> {
  return poll(REACHED_MS, signal, async () => {
    const settings = await readSettings(files);
    return settings.address === undefined ? undefined : settings;
  });
}

async function poll<T>(
  limitMs: number,
  signal: AbortSignal,
  look: () => Promise<T | undefined>,
): Promise<T | undefined> {
  const deadlineMs = performance.now() + limitMs;
  while (performance.now() < deadlineMs && !signal.aborted) {
    const found = await look();
    if (found !== undefined) return found;
    await sleep(POLL_MS);
  }
  return undefined;
}

/** What is to be finished when another step of the job wants these kinds as well, in its own way. */
export function widenPendingSetup(
  pending: PendingSetup,
  kinds: readonly SetupKind[],
  request: SetupRequest,
  found: {
    readonly nix?: NixFacts | undefined;
    readonly pushMode?: PushMode | undefined;
  },
): PendingSetup {
  const { pushMode, pushFilter, configureSubstituter, priority, prefetch, extraViews } = request;
  return {
    ...pending,
    nix: found.nix ?? pending.nix,
    pushMode: found.pushMode ?? pending.pushMode,
    request: {
      ...pending.request,
      kinds: [...new Set([...pending.request.kinds, ...kinds])],
      ...(kinds.includes("bazel") && { bazel: request.bazel }),
      ...(kinds.includes("nix") && {
        ...{ pushMode, pushFilter, configureSubstituter, priority, prefetch, extraViews },
      }),
    },
  };
}

/** Writes it, for the agent that is about to begin. */
export function writePendingSetup(files: SessionFiles, pending: PendingSetup): Promise<void> {
  return writeState(files.pending, pending);
}
