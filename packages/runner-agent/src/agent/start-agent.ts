import { spawn } from "node:child_process";
import { open, readFile, rm } from "node:fs/promises";
import type { Readable, Writable } from "node:stream";

import { CacheError } from "@glorious/core";

import { isRunning } from "../session/process-identity.ts";
import type { SessionFiles } from "../session/session-files.ts";
import { type AgentSession, readSession } from "../session/session-state.ts";
import { agentCommand, agentEnvironment } from "./agent-command.ts";
import { loadFaces } from "./load-faces.ts";

/** Options of {@link launchAgent}. */
export interface LaunchAgentOptions {
  /** How this command line is run: program and arguments. */
  readonly self: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Serves nothing, only pushes what an agent before it left. */
  readonly drainOnly: boolean;
}

/** An agent whose program is being loaded, and that has not begun. */
export interface LaunchedAgent {
  /**
   * Lets it begin with the session's settings, which must be written by now, and waits until it is ready.
   *
   * @throws {CacheError} `UNAVAILABLE` with its last words when it is not.
   */
  begin(signal: AbortSignal): Promise<AgentSession>;
  /** It ends without having done anything. */
  abandon(): void;
}

/** How long an agent may take until it serves. */
const READY_MS = 5000;
const POLL_MS = 5;
const BEGIN = "begin\n";

/**
 * Starts the process of a session's agent, which outlives this one and holds none of its streams. To load its program
 * takes longer than to ask the server, so it is started before anybody knows whether it is needed; when this process
 * ends before it has let the agent begin, the agent ends too.
 */
export async function launchAgent(
  files: SessionFiles,
  { self, env, drainOnly }: LaunchAgentOptions,
): Promise<LaunchedAgent> {
  await rm(files.session, { force: true });
  const flags = drainOnly ? (["--wait", "--drain-only"] as const) : (["--wait"] as const);
  const [program, ...words] = agentCommand(self, files.folder, ...flags);
  const log = await open(files.log, "a", 0o600);
  const ended = new AbortController();
  let stdin: Writable | null;
  try {
    const child = spawn(program, words, {
      env: agentEnvironment(env),
      cwd: "/",
      detached: true,
      stdio: ["pipe", log.fd, log.fd],
    });
    child.on("error", () => ended.abort());
    child.on("exit", () => ended.abort());
    // One that has died does not read it.
    child.stdin?.on("error", () => {});
    child.unref();
    ({ stdin } = child);
  } finally {
    await log.close();
  }
  return {
    begin: (signal) => {
      stdin?.end(BEGIN);
      return waitUntilReady(files, AbortSignal.any([signal, ended.signal]));
    },
    abandon: () => void stdin?.end(),
  };
}

async function waitUntilReady(files: SessionFiles, signal: AbortSignal): Promise<AgentSession> {
  const deadlineMs = performance.now() + READY_MS;
  while (performance.now() < deadlineMs && !signal.aborted) {
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

/** Waits, as an agent that was launched, to be told whether it is to begin, and loads what it needs meanwhile. */
export async function isToBegin(stdin: Readable): Promise<boolean> {
  void loadFaces();
  let text = "";
  for await (const chunk of stdin) text += String(chunk);
  return text === BEGIN;
}
