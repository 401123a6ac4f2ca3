import { createHash } from "node:crypto";
import { open, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { CacheError, makeFolder } from "@glorious/core";
import {
  formatNarInfo,
  formatNixCacheInfo,
  isStorePathHash,
  parseHash,
  sha256HexToNix32,
} from "@glorious/nix-store";

import { systemCodeOf, toFileError } from "../file-error.ts";
import type { CacheSource, SourcePath } from "../import/cache-source.ts";
import { readWhole } from "../import/folder-files.ts";
import type { TransferEvent, TransferSummary } from "../import/transfer-events.ts";
import { type Delivery, transferPaths } from "../import/transfer-paths.ts";
import { readVerifiedFile, readVerifiedNar } from "../import/verified-nar.ts";
import { leaveOut } from "../leave-out.ts";
import { NarSourceError } from "../nar-source.ts";
import { runParallel } from "../run-parallel.ts";

const DEFAULT_CONCURRENCY = 5;

/** What {@link exportPaths} needs. */
export interface ExportOptions {
  readonly source: CacheSource;
  /** The folder, made when there is none; it may hold an earlier export. */
  readonly directory: string;
  /** What `nix-cache-info` says; Nix asks the lower one first. */
  readonly priority: number | undefined;
  /** Store path hashes, some perhaps twice. */
  readonly roots: AsyncIterable<string> | Iterable<string>;
  /** Whether what they refer to is exported too. */
  readonly followsReferences: boolean;
  /** Downloads at the same time; default 5. */
  readonly concurrency?: number | undefined;
  /** Must not throw. */
  readonly onEvent?: ((event: TransferEvent) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Writes paths of a cache as a static binary cache: `nix-cache-info`, `<hash>.narinfo` with the signatures as they are, and
 * `nar/<file hash>.nar.<extension>`. Any web server, and Nix itself by `file://`, serves that.
 *
 * Every file is verified while it is written and named when it is whole, and a narinfo comes when its NAR and its references
 * are there: a reader finds whole closures or nothing, also in an export that was broken off. What the folder has is kept,
 * so that such an export goes on.
 *
 * @throws {CacheError} what ended the work: the source cannot be reached, the folder cannot be written, `CANCELLED`.
 */
export async function exportPaths(options: ExportOptions): Promise<TransferSummary> {
  const { source, directory, priority, roots, followsReferences, signal } = options;
  const { concurrency = DEFAULT_CONCURRENCY, onEvent = () => {} } = options;
  const about = formatNixCacheInfo({ storeDir: source.storeDir, wantMassQuery: true, priority });
  const present = await onDisk(directory, async () => {
    await makeFolder(directory);
    await makeFolder(join(directory, "nar"));
    await replaceText(join(directory, "nix-cache-info"), about);
    return readPresent(directory);
  });
  return transferPaths({
    source,
    roots,
    followsReferences,
    onEvent,
    signal,
    target: {
      findMissing: (hashes) =>
        Promise.resolve(new Set(hashes.filter((hash) => !present.has(hash)))),
      deliver: (patient, paths) => deliver(patient, paths, { directory, concurrency, signal }),
    },
  });
}

interface DeliverOptions {
  readonly directory: string;
  readonly concurrency: number;
  readonly signal: AbortSignal | undefined;
}

async function deliver(
  source: CacheSource,
  paths: readonly SourcePath[],
  { directory, concurrency, signal }: DeliverOptions,
): Promise<Delivery> {
  const files = new Map<string, NarFile>();
  const failures = new Map<string, CacheError>();
  await runParallel(
    paths,
    async (path, taskSignal) => {
      try {
        const file = await onDisk(directory, () => writeNar(source, path, directory, taskSignal));
        files.set(path.storePath.hash, file);
      } catch (error) {
        if (!(error instanceof NarSourceError)) throw error;
        failures.set(path.storePath.hash, error);
      }
    },
    { concurrency, signal },
  );
  const { sound, failed } = leaveOut(paths, ({ storePath }) => failures.get(storePath.hash));
  let narBytes = 0;
  let fileBytes = 0;
  for (const path of sound) {
    const file = files.get(path.storePath.hash);
    if (file === undefined) throw new Error(`${path.storePath.path} was not written`);
    const place = join(directory, `${path.storePath.hash}.narinfo`);
    await onDisk(directory, () => replaceText(place, describe(path, file)));
    narBytes += path.narSize;
    fileBytes += file.sizeBytes;
  }
  return { added: sound.length, alreadyPresent: 0, failed, narBytes, fileBytes };
}

/** A NAR's file in the folder. */
interface NarFile {
  /** As the narinfo names it. */
  readonly url: string;
  readonly sha256: string;
  readonly sizeBytes: number;
}

const EXTENSIONS: Readonly<Record<SourcePath["compression"], string>> = {
  none: "",
  gzip: ".gz",
  br: ".br",
  zstd: ".zst",
  xz: ".xz",
};

function urlOf(sha256: string, { compression }: SourcePath): string {
  return `nar/${sha256HexToNix32(sha256)}.nar${EXTENSIONS[compression]}`;
}

/** Writes the file unless it is there and is this path's: what a narinfo says of its file nobody has signed. */
async function writeNar(
  source: CacheSource,
  path: SourcePath,
  directory: string,
  signal: AbortSignal,
): Promise<NarFile> {
  if (path.fileHash !== undefined) {
    const url = urlOf(path.fileHash, path);
    const found = await stat(join(directory, url)).catch(() => undefined);
    const there = { read: () => readWhole(join(directory, url), signal) };
    const isSame = found !== undefined && found.size === path.fileSize;
    if (isSame && (await isVerified(there, path, signal))) {
      return { url, sha256: path.fileHash, sizeBytes: found.size };
    }
  }
  const temporary = join(directory, "nar", `.${path.storePath.hash}.partial`);
  const hash = createHash("sha256");
  let sizeBytes = 0;
  try {
    {
      await using file = await open(temporary, "w");
      for await (const chunk of readVerifiedFile(source, path, { signal })) {
        hash.update(chunk);
        sizeBytes += chunk.length;
        await file.writeFile(chunk);
      }
      await file.datasync();
    }
    const sha256 = hash.digest("hex");
    const url = urlOf(sha256, path);
    await rename(temporary, join(directory, url));
    return { url, sha256, sizeBytes };
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Whether a file is the one that a narinfo names, and holds its NAR. */
async function isVerified(
  source: Pick<CacheSource, "read">,
  path: SourcePath,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    const nar = readVerifiedNar(source, path, { signal });
    for (let next = await nar.next(); next.done !== true;) next = await nar.next();
    return true;
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof NarSourceError) return false;
    throw error;
  }
}

function describe(path: SourcePath, { url, sha256, sizeBytes }: NarFile): string {
  const { storePath, compression, narHash, narSize, references, deriver, ca, signatures } = path;
  return formatNarInfo({
    storePath: storePath.path,
    url,
    compression,
    fileHash: parseHash(sha256, "sha256"),
    fileSize: sizeBytes,
    narHash: parseHash(narHash, "sha256"),
    narSize,
    references: [...references].sort(),
    ...(deriver === undefined ? {} : { deriver }),
    ...(ca === undefined ? {} : { ca }),
    signatures,
  });
}

async function readPresent(directory: string): Promise<Set<string>> {
  const names = await readdir(directory);
  const hashes = names
    .filter((name) => name.endsWith(".narinfo"))
    .map((name) => name.slice(0, -".narinfo".length));
  return new Set(hashes.filter((hash) => isStorePathHash(hash)));
}

async function replaceText(path: string, text: string): Promise<void> {
  await writeFile(`${path}.partial`, text, { flush: true });
  await rename(`${path}.partial`, path);
}

/** A full disk or a folder that may not be written ends the export, whatever path came to it. */
async function onDisk<T>(directory: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof CacheError) throw error;
    const code = systemCodeOf(error);
    if (code === "ENOSPC") {
      throw new CacheError("STORAGE_FULL", `The disk of ${directory} is full`, { cause: error });
    }
    if (code === "EACCES" || code === "EPERM" || code === "EROFS") {
      throw new CacheError("UNAVAILABLE", `${directory} may not be written by this user`, {
        hint: "Choose another folder, or let this user write there.",
        cause: error,
      });
    }
    throw toFileError(error, directory);
  }
}
