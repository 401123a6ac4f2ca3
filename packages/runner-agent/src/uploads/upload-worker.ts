import type { Logger } from "@glorious/core";

import type { SessionFiles } from "../session/session-files.ts";
import { readSettings } from "../session/session-state.ts";
import { openSpool } from "./spool.ts";
import { findNewPaths } from "./store-diff.ts";
import type { FromUploads, ToUploads } from "./upload-messages.ts";
import { createUploadTarget, readTokenFile } from "./upload-target.ts";
import { startUploader } from "./uploader.ts";

/** Options of {@link runUploadWorker}. */
export interface UploadWorkerOptions {
  readonly files: SessionFiles;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly logger: Logger;
}

/**
 * Pushes a session's store paths until the agent that started this process ends. It is a process of its own, so that
 * compressing takes the processor from nobody, and so that what goes wrong here does not touch the faces.
 */
export async function runUploadWorker({ files, env, logger }: UploadWorkerOptions): Promise<void> {
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  process.on("disconnect", () => end());
  const settings = await readSettings(files);
  const { uploads, write } = settings;
  if (uploads === undefined || write === undefined) return;
  const { nix, storeDir } = uploads;
  const tell = (message: FromUploads): void => {
    if (process.connected) process.send?.(message);
  };
  const renewals: ((isNew: boolean) => void)[] = [];
  const excluded = uploads.exclude.map((source) => new RegExp(source));
  await using target = createUploadTarget({
    server: settings.server,
    view: write,
    nix,
    storeDir,
    readToken: () => readTokenFile(files.token),
    renewToken: () => {
      const { promise, resolve } = Promise.withResolvers<boolean>();
      renewals.push(resolve);
      tell({ type: "refused" });
      return promise;
    },
  });
  await using uploader = startUploader({
    spool: await openSpool({ queueFile: files.queue, journalFile: files.journal }),
    queueFile: files.queue,
    push: target.push,
    isExcluded: (path) => excluded.some((pattern) => pattern.test(path)),
    findMore: async (signal) => {
      if (uploads.mode !== "store-diff") return [];
      const found = await findNewPaths({
        storeDir,
        snapshotFile: files.snapshot,
        nix,
        env,
        signal,
      });
      return target.keepUnsigned(found, signal);
    },
    onFigures: (figures) => tell({ type: "figures", figures }),
    logger,
  });
  process.on("message", (message: ToUploads) => {
    if (message.type === "renewed") {
      for (const resolve of renewals.splice(0)) resolve(message.isNew);
      return;
    }
    void uploader.drain({ timeoutMs: message.timeoutMs }).then((report) => {
      tell({ type: "figures", figures: uploader.figures() });
      tell({ type: "drained", report });
    });
  });
  // The agent may have been killed before anybody listened.
  if (!process.connected) end();
  await ended;
}
