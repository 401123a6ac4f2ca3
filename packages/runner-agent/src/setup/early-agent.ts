import { rm } from "node:fs/promises";

import { type LaunchAgentOptions, launchAgent, type LaunchedAgent } from "../agent/start-agent.ts";
import { createSessionFolder, type SessionFiles } from "../session/session-files.ts";

/** A session's folder, and its agent that has not begun. */
interface PreparedSession {
  readonly files: SessionFiles;
  readonly agent: LaunchedAgent;
}

/** A session in the making, of which nothing is left unless it is taken. */
export interface EarlyAgent extends AsyncDisposable {
  /** Makes the folder and starts the agent's process, without waiting for either. */
  launch(): void;
  /** The folder, which is there. @throws what kept it from being made. */
  files(): Promise<SessionFiles>;
  /** From now on the caller's. @throws what kept it from being made. */
  take(): Promise<PreparedSession>;
}

/** @param parent where the session's folder goes */
export function createEarlyAgent(parent: string, options: LaunchAgentOptions): EarlyAgent {
  let prepared: Promise<PreparedSession> | undefined;
  let made: Promise<SessionFiles> | undefined;
  const make = (): Promise<SessionFiles> => (made ??= createSessionFolder(parent));
  const prepare = (): Promise<PreparedSession> => (prepared ??= prepareSession(make(), options));
  return {
    // Who takes it is told of a failure.
    launch: () => void prepare().catch(() => {}),
    files: make,
    async take() {
      const taken = await prepare();
      prepared = undefined;
      return taken;
    },
    async [Symbol.asyncDispose]() {
      const left = await prepared?.catch(() => undefined);
      if (left !== undefined) await discardSession(left);
    },
  };
}

async function prepareSession(
  made: Promise<SessionFiles>,
  options: LaunchAgentOptions,
): Promise<PreparedSession> {
  const files = await made;
  try {
    return { files, agent: await launchAgent(files, options) };
  } catch (error) {
    await rm(files.folder, { recursive: true, force: true });
    throw error;
  }
}

/** Leaves nothing of a session that did not come to be. */
export async function discardSession({ files, agent }: PreparedSession): Promise<void> {
  agent.abandon();
  await rm(files.folder, { recursive: true, force: true });
}
