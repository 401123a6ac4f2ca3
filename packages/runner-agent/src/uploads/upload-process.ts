import { type ChildProcess, spawn } from "node:child_process";
import { type FSWatcher, watch } from "node:fs";
import { stat } from "node:fs/promises";
import { setPriority } from "node:os";

import { describeError, type Logger } from "@glorious/core";

import { agentCommand } from "../agent/agent-command.ts";
import type { Credentials } from "../credentials.ts";
import type { SessionFiles } from "../session/session-files.ts";
import type { UploadFigures } from "../statistics.ts";
import type { FromUploads, ToUploads } from "./upload-messages.ts";
import type { DrainOptions, DrainReport } from "./uploader.ts";

/** Options of {@link createUploadProcess}. */
export interface UploadProcessOptions {
  /** How this command line is run: program and arguments. */
  readonly self: readonly string[];
  readonly files: SessionFiles;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly credentials: Credentials;
  readonly onFigures: (figures: UploadFigures) => void;
  readonly logger: Logger;
}

/** The process that pushes, started when there is something to push. */
export interface UploadProcess extends AsyncDisposable {
  /** Never rejects. */
  drain(options: DrainOptions): Promise<DrainReport>;
}

/** How nice the uploads are to the builds. */
const NICENESS = 10;
const POLL_MS = 1000;
const MAX_STARTS = 5;
/** Beyond a drain's own limit: its process may be late with its report. */
const GRACE_MS = 5000;
const NOTHING: DrainReport = { pushed: 0, bytes: 0, failed: 0, left: 0 };

/** Watches the queue, and starts the process for its first path. */
export function createUploadProcess(options: UploadProcessOptions): UploadProcess {
  const { files, logger } = options;
  let child: ChildProcess | undefined;
  let starts = 0;
  let isClosed = false;
  let left = 0;
  let draining:
    | { readonly timeoutMs: number; readonly report: (report: DrainReport) => void }
    | undefined;

  const tell = (message: ToUploads): void => {
    if (child?.connected === true) child.send(message);
  };
  const heed = (message: FromUploads): void => {
    if (message.type === "figures") {
      left = message.figures.left;
      options.onFigures(message.figures);
    } else if (message.type === "drained") {
      draining?.report(message.report);
    } else {
      const { credentials } = options;
      void credentials
        .refused(credentials.token())
        .then((isNew) => tell({ type: "renewed", isNew }));
    }
  };
  const start = (): void => {
    if (child !== undefined || isClosed || starts >= MAX_STARTS) return;
    starts += 1;
    const [program, ...words] = agentCommand(options.self, files.folder, "--uploads");
    const started = spawn(program, words, {
      env: options.env,
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    child = started;
    // Before it has any threads, so that all of them are nice.
    if (started.pid !== undefined) makeNice(started.pid, logger);
    started.on("message", heed);
    started.on("error", (error) => {
      logger.error("the upload process cannot be started", { error: describeError(error) });
    });
    started.on("exit", (code, signal) => {
      child = undefined;
      if (isClosed) return;
      logger.warn("the upload process ended", { code, signal });
      if (draining === undefined) return;
      start();
      if (child === undefined) {
        draining.report({ ...NOTHING, left, reason: "The upload process ended" });
      }
      tell({ type: "drain", timeoutMs: draining.timeoutMs });
    });
  };
  const look = async (): Promise<void> => {
    const facts = await stat(files.queue).catch(() => undefined);
    if (facts !== undefined && facts.size > 0) start();
  };

  const poll = setInterval(() => void look(), POLL_MS);
  poll.unref();
  let watcher: FSWatcher | undefined;
  try {
    watcher = watch(files.queue, () => void look());
    watcher.on("error", () => watcher?.close());
  } catch (error) {
    logger.info("the queue is looked at from time to time", { error: describeError(error) });
  }
  void look();

  return {
    async drain({ timeoutMs }) {
      start();
      const { promise, resolve } = Promise.withResolvers<DrainReport>();
      draining = { timeoutMs, report: resolve };
      if (child === undefined) resolve({ ...NOTHING, left, reason: "Uploads do not run" });
      tell({ type: "drain", timeoutMs });
      const timer = setTimeout(
        () => resolve({ ...NOTHING, left, reason: "The upload process does not answer" }),
        timeoutMs + GRACE_MS,
      );
      try {
        return await promise;
      } finally {
        clearTimeout(timer);
        draining = undefined;
      }
    },
    async [Symbol.asyncDispose]() {
      isClosed = true;
      clearInterval(poll);
      watcher?.close();
      if (child === undefined) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      child.once("exit", () => resolve());
      const ending = child;
      if (ending.connected) ending.disconnect();
      const timer = setTimeout(() => ending.kill("SIGKILL"), 2000);
      await promise;
      clearTimeout(timer);
    },
  };
}

function makeNice(pid: number, logger: Logger): void {
  try {
    setPriority(pid, NICENESS);
  } catch (error) {
    logger.info("the uploads keep their priority", { error: describeError(error) });
  }
}
