import { spawn } from "node:child_process";
import { open, readFile, rm } from "node:fs/promises";

import { CacheError } from "@glorious/core";

import { isRunning } from "../session/process-identity.ts";
import type { SessionFiles } from "../session/session-files.ts";
import { type AgentSession, readSession } from "../session/session-state.ts";
import { agentCommand, agentEnvironment } from "./agent-command.ts";

/** Options of {@link startAgent}. */
export interface StartAgentOptions {
  /** How this command line is run: program and arguments. */
  readonly self: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Serves nothing, only pushes what an agent before it left. */
  readonly drainOnly: boolean;
  readonly signal: AbortSignal;
}

/** How long an agent may take until it serves. */
const READY_MS = 5000;
const POLL_MS = 10;

/**
 * Starts the agent of a session as a process that outlives this one and holds none of its streams, and waits until it
 * says that it is ready.
 *
 * @throws {CacheError} `UNAVAILABLE` with its last words when it is not.
 */
export async function startAgent(
  files: SessionFiles,
  { self, env, drainOnly, signal }: StartAgentOptions,
): Promise<AgentSession> {
  await rm(files.session, { force: true });
  const [program, ...words] = agentCommand(
    self,
    files.folder,
    drainOnly ? "--drain-only" : undefined,
  );
  const log = await open(files.log, "a", 0o600);
  const ended = new AbortController();
  try {
    const child = spawn(program, words, {
      env: agentEnvironment(env),
      cwd: "/",
      detached: true,
      stdio: ["ignore", log.fd, log.fd],
    });
    child.on("error", () => ended.abort());
    child.on("exit", () => ended.abort());
    child.unref();
  } finally {
    await log.close();
  }
  const deadlineMs = performance.now() + READY_MS;
  const given = AbortSignal.any([signal, ended.signal]);
  while (performance.now() < deadlineMs && !given.aborted) {
    const session = await findRunningSession(files);
    if (session !== undefined) return session;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  const said = (await readFile(files.log, "utf8").catch(() => "")).trim().split("\n").at(-1) ?? "";
  throw new CacheError("UNAVAILABLE", `The agent did not start${said === "" ? "" : `: ${said}`}`);
}

/** The session, when its agent runs. */
export async function findRunningSession(files: SessionFiles): Promise<AgentSession | undefined> {
  const session = await readSession(files).catch(() => undefined);
  if (session?.state !== "running") return undefined;
  return (await isRunning(session.process)) ? session : undefined;
}
