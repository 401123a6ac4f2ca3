import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { dirname } from "node:path";

import { describeError, type Logger } from "@glorious/core";

import type { DrainLine } from "../control/control-api.ts";
import { type ControlHandlers, startControlServer } from "../control/control-server.ts";
import { createReplaceableCredentials, type Credentials } from "../credentials.ts";
import { identifyProcess, isRunning } from "../session/process-identity.ts";
import { removeSession } from "../session/remove-session.ts";
import { chooseSocketPath, type SessionFiles, sessionFiles } from "../session/session-files.ts";
import {
  type AgentSession,
  type AgentSettings,
  readSettings,
  writeSession,
} from "../session/session-state.ts";
import { createStatistics, type Statistics, type UploadFigures } from "../statistics.ts";
import { appendToQueue, openSpool } from "../uploads/spool.ts";
import { takeSnapshot } from "../uploads/store-diff.ts";
import { createUploadProcess, type UploadProcess } from "../uploads/upload-process.ts";
import type { DrainReport } from "../uploads/uploader.ts";
import { openJobCredentials } from "./job-credentials.ts";
import { createFaces } from "./start-faces.ts";
import { createSummaryWriter, readSummary } from "./summary-file.ts";

/** Options of {@link runAgent}. */
export interface AgentOptions {
  /** The session's folder. */
  readonly folder: string;
  /** After another agent's sudden end: serves no faces, only pushes what that one left. */
  readonly drainOnly: boolean;
  /** How this command line is run: program and arguments. */
  readonly self: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly logger: Logger;
  /** Ends the agent. */
  readonly signal: AbortSignal;
  /**
   * Finishes a set-up that did not wait for the server; the session's settings have changed when it is through. Never
   * rejects. Returns what the job's people are to know when nothing came of it.
   */
  readonly complete: (
    files: SessionFiles,
    context: {
      readonly env: Readonly<Record<string, string | undefined>>;
      readonly self: readonly string[];
      readonly signal: AbortSignal;
    },
  ) => Promise<string | undefined>;
}

/** How often the job's process is looked for. */
const WATCH_MS = 2000;
const HEARTBEAT_MS = 5000;
/** When the set-up that waits for this agent is over, and the processors are free again. */
const PREPARE_MS = 250;
/** Beyond it nothing that was asked to end is waited for. */
const END_MS = 5000;

/**
 * Runs the agent of a session until it is told to stop, its job's process is gone, or it is too old.
 *
 * A job that ends without telling, because it was cancelled or its runner died, leaves a drain and no files behind.
 */
export async function runAgent(options: AgentOptions): Promise<void> {
  const { env, logger, drainOnly } = options;
  const files = sessionFiles(options.folder);
  const settings = await readSettings(files);
  const previous = drainOnly ? await readSummary(files.summary) : undefined;
  const stop = new AbortController();
  const stopped = AbortSignal.any([options.signal, stop.signal]);

  await using owned = new AsyncDisposableStack();
  let writer: ReturnType<typeof createSummaryWriter> | undefined;
  const statistics = createStatistics({
    startedAt: new Date(settings.startedAt),
    previous,
    onChange: () => writer?.schedule(),
  });
  statistics.status = settings.status;
  if (drainOnly) statistics.warn("The agent had ended early: the job went on without it.");
  writer = owned.adopt(createSummaryWriter(files.summary, statistics), (it) => it.flush());

  const openCredentials = (from: AgentSettings): ReturnType<typeof openJobCredentials> =>
    openJobCredentials(from, files, { env, logger });
  const credentials = owned.use(createReplaceableCredentials(await openCredentials(settings)));
  let isReached = settings.address !== undefined;
  const faces = owned.use(createFaces({ files, credentials, statistics, logger }));
  if (!drainOnly) await faces.start(settings);
  let uploads: UploadProcess | undefined;
  const startUploads = async (wanted: AgentSettings): Promise<void> => {
    uploads ??= await openUploads(wanted, { options, files, credentials, statistics });
  };
  owned.defer(async () => uploads?.[Symbol.asyncDispose]());
  await startUploads(settings);

  const handlers: ControlHandlers = {
    session: () => ({ summary: statistics.snapshot() }),
    enqueue: (paths) => appendToQueue(files.queue, paths),
    drain: (timeoutMs, tell) =>
      drain({ uploads, files, statistics }, timeoutMs ?? settings.drainTimeoutSeconds * 1000, tell),
    reload: async () => {
      const wanted = await readSettings(files);
      statistics.status = wanted.status;
      if (!isReached && wanted.address !== undefined) {
        isReached = true;
        credentials.replace(await openCredentials(wanted));
      }
      await faces.start(wanted);
      await startUploads(wanted);
      await announce();
    },
    stop: () => stop.abort(),
  };
  const socket = await chooseSocketPath(files);
  await rm(socket, { force: true });
  const control = await startControlServer(socket, handlers);
  owned.use(control);
  if (socket !== files.socket) {
    owned.defer(() => rm(dirname(socket), { recursive: true, force: true }));
  }
  const identity = (await identifyProcess(process.pid)) ?? { pid: process.pid };
  const describe = (state: AgentSession["state"]): AgentSession => {
    return { version: 1, state, process: identity, socket, faces: faces.addresses() };
  };
  const announce = (): Promise<void> => writeSession(files, describe("running"));
  await announce();
  logger.info("agent ready", { drainOnly });
  if (!drainOnly && existsSync(files.pending)) {
    void options.complete(files, { env, self: options.self, signal: stopped }).then((trouble) => {
      logger.info("the set-up is complete", { trouble });
      if (trouble !== undefined) statistics.warn(trouble);
    });
  }
  const preparing = setTimeout(() => faces.prepare(), PREPARE_MS);
  owned.defer(() => clearTimeout(preparing));

  const end = await waitForEnd(settings, stopped);
  logger.info("agent ends", { because: end });
  setTimeout(() => process.exit(0), END_MS + settings.drainTimeoutSeconds * 1000).unref();
  if (end === "job ended" || end === "too old") {
    await drain({ uploads, files, statistics }, settings.drainTimeoutSeconds * 1000, () => {});
    await owned.disposeAsync();
    await removeSession(files);
    return;
  }
  await writeSession(files, describe("ended")).catch((error: unknown) => {
    logger.warn("the session's end cannot be noted", { error: describeError(error) });
  });
}

async function openUploads(
  settings: AgentSettings,
  context: {
    readonly options: AgentOptions;
    readonly files: ReturnType<typeof sessionFiles>;
    readonly credentials: Credentials;
    readonly statistics: Statistics;
  },
): Promise<UploadProcess | undefined> {
  const { options, files, credentials, statistics } = context;
  if (settings.uploads === undefined) return undefined;
  const { mode, storeDir } = settings.uploads;
  if (mode === "store-diff" && !options.drainOnly && !existsSync(files.snapshot)) {
    await takeSnapshot(storeDir, files.snapshot);
  }
  // Nobody knows yet where to.
  if (settings.address === undefined) return undefined;
  const { self, env, logger } = options;
  const onFigures = (figures: UploadFigures): void => statistics.uploads(figures);
  return createUploadProcess({ self, files, env, credentials, onFigures, logger });
}

interface Drained {
  readonly uploads: UploadProcess | undefined;
  readonly files: SessionFiles;
  readonly statistics: Statistics;
}

async function drain(
  { uploads, files, statistics }: Drained,
  timeoutMs: number,
  tell: (line: DrainLine) => void,
): Promise<void> {
  const beat = setInterval(() => {
    const { left = 0, pushed = 0 } = statistics.snapshot().uploads ?? {};
    tell({ type: "heartbeat", left, pushed });
  }, HEARTBEAT_MS);
  try {
    const report = (await uploads?.drain({ timeoutMs })) ?? (await describeUnreached(files));
    if (report.left > 0) {
      const paths = report.left === 1 ? "1 path was" : `${report.left} paths were`;
      statistics.warn(`${paths} not pushed: ${report.reason ?? "there was no time"}`);
    }
    tell({ type: "report", ...report });
  } finally {
    clearInterval(beat);
  }
}

/** The report of an agent that pushes nothing, be it that it need not or that it never learned where to. */
async function describeUnreached(files: SessionFiles): Promise<DrainReport> {
  const nothing = { pushed: 0, bytes: 0, failed: 0, left: 0 };
  const { address, uploads } = await readSettings(files);
  if (address !== undefined || uploads === undefined) return nothing;
  const spool = await openSpool({ queueFile: files.queue, journalFile: files.journal });
  return { ...nothing, left: (await spool.readNew()).length, reason: "the cache was not reached" };
}

type End = "stopped" | "job ended" | "too old";

async function waitForEnd(
  { job, maxAgeSeconds }: AgentSettings,
  stopped: AbortSignal,
): Promise<End> {
  const { promise, resolve } = Promise.withResolvers<End>();
  const onStop = (): void => resolve("stopped");
  stopped.addEventListener("abort", onStop);
  if (stopped.aborted) onStop();
  const age = setTimeout(() => resolve("too old"), Math.min(maxAgeSeconds * 1000, 2 ** 31 - 1));
  const watch = setInterval(() => {
    if (job === undefined) return;
    void isRunning(job).then((isThere) => isThere || resolve("job ended"));
  }, WATCH_MS);
  try {
    return await promise;
  } finally {
    clearTimeout(age);
    clearInterval(watch);
    stopped.removeEventListener("abort", onStop);
  }
}
