import { type Dirent, lstat, readdir, readlink, type Stats } from "node:fs";
import { promisify } from "node:util";

import { CacheError } from "@glorious/core";
import { type NarEntry, writeNar } from "@glorious/nix-store";

import { cancelled } from "./cancellation.ts";
import { toFileError } from "./file-error.ts";
import {
  type BufferSource,
  createBufferSource,
  openRegularFile,
  unsupportedFile,
} from "./read-file.ts";

/** Options of {@link dumpStorePath}. */
export interface DumpStorePathOptions {
  /**
   * Strips the `~nix~case~hack~<n>` suffixes that Nix appends to names on case-insensitive file
   * systems; default: on macOS only, as Nix's own `use-case-hack`.
   */
  readonly caseHack?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Entries whose files are opened and read before their turn comes. */
const READ_AHEAD_ENTRIES = 16;
/** A file up to this size is read whole, ahead of its turn; 16 of them are 2 MiB. */
const WHOLE_FILE_BYTES = 128 * 1024;
const CASE_HACK = "~nix~case~hack~";

/**
 * Serializes the file, directory or symbolic link at `realPath` as a NAR, as `nix-store --dump` does.
 *
 * Memory is bounded whatever the sizes: a few MiB for one dump. Names are bytes and sorted as bytes.
 * Stopping the iteration closes every file.
 *
 * @throws {CacheError} `NOT_FOUND`, `FORBIDDEN` or `CORRUPT` when something cannot be read or changes
 * meanwhile; `UNSUPPORTED` for sockets, pipes and devices; `CANCELLED`.
 */
export function dumpStorePath(
  realPath: string,
  options: DumpStorePathOptions = {},
): AsyncGenerator<Buffer, void, undefined> {
  return writeNar(readEntries(realPath, options, false));
}

/**
 * As {@link dumpStorePath}, for a consumer that copies: a chunk is good only until two more have been
 * asked for. Large files then leave no garbage behind.
 */
export function dumpForCopying(
  realPath: string,
  options: DumpStorePathOptions = {},
): AsyncGenerator<Buffer, void, undefined> {
  return writeNar(readEntries(realPath, options, true));
}

/** Something found in the tree; `file` is its path as bytes in latin1, one character each. */
interface Found {
  readonly path: readonly Buffer[];
  readonly file: string;
  readonly kind: FileKind;
}

type FileKind = "directory" | "regular" | "symlink" | "other";

async function* readEntries(
  realPath: string,
  options: DumpStorePathOptions,
  reuseBuffers: boolean,
): AsyncGenerator<NarEntry, void, undefined> {
  const { signal } = options;
  const nextBuffer = createBufferSource(reuseBuffers);
  const pending: Promise<NarEntry>[] = [];
  for await (const found of walk(realPath, options.caseHack ?? process.platform === "darwin")) {
    if (signal?.aborted === true) throw cancelled(signal, `Reading ${realPath}`);
    const entry = readEntry(found, nextBuffer);
    // An entry behind one that fails is never asked for.
    entry.catch(() => {});
    pending.push(entry);
    if (pending.length < READ_AHEAD_ENTRIES) continue;
    const first = pending.shift();
    if (first !== undefined) yield await first;
  }
  for (const entry of pending) yield await entry;
}

const readNames = promisify(readdir) as (
  path: Buffer,
  options: { encoding: "buffer"; withFileTypes: true },
) => Promise<Dirent<Buffer>[]>;
const readTarget = promisify(readlink) as (
  path: Buffer,
  options: { encoding: "buffer" },
) => Promise<Buffer>;
const statLink = promisify(lstat) as (path: Buffer) => Promise<Stats>;

/** Lists the tree depth first, in the order a NAR has its entries. */
async function* walk(realPath: string, caseHack: boolean): AsyncGenerator<Found, void, undefined> {
  const file = Buffer.from(realPath).toString("latin1");
  const root: Found = { path: [], file, kind: await readRootKind(file) };
  // A stack instead of recursion: every level of `yield*` would cost on every entry below it.
  const stack: Found[] = [root];
  for (let found = stack.pop(); found !== undefined; found = stack.pop()) {
    yield found;
    if (found.kind !== "directory") continue;
    // One by one: a directory may have more entries than a call may have arguments.
    for (const child of (await listDirectory(found, caseHack)).toReversed()) stack.push(child);
  }
}

async function readRootKind(file: string): Promise<FileKind> {
  try {
    return kindOf(await statLink(toPathBytes(file)));
  } catch (error) {
    throw toFileError(error, show(file));
  }
}

async function listDirectory(directory: Found, caseHack: boolean): Promise<Found[]> {
  const children = await readChildren(directory.file);
  const named = children.map((child) => {
    const onDisk = child.name.toString("latin1");
    const hackAt = caseHack ? onDisk.indexOf(CASE_HACK) : -1;
    return { child, onDisk, name: hackAt === -1 ? onDisk : onDisk.slice(0, hackAt) };
  });
  // latin1 strings compare as their bytes do.
  named.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  return named.map(({ child, onDisk, name }, index) => {
    if (named[index - 1]?.name === name) {
      throw new CacheError(
        "CORRUPT",
        `${show(directory.file)} has two entries named ${show(name)}`,
        {
          hint: "They differ only by their case-hack suffix; repair the path.",
        },
      );
    }
    return {
      path: [...directory.path, Buffer.from(name, "latin1")],
      file: `${directory.file}/${onDisk}`,
      kind: kindOf(child),
    };
  });
}

async function readChildren(file: string): Promise<Dirent<Buffer>[]> {
  try {
    return await readNames(toPathBytes(file), { encoding: "buffer", withFileTypes: true });
  } catch (error) {
    throw toFileError(error, show(file));
  }
}

async function readEntry({ path, file, kind }: Found, nextBuffer: BufferSource): Promise<NarEntry> {
  try {
    if (kind === "directory") return { type: "directory", path };
    if (kind === "symlink") {
      const target = await readTarget(toPathBytes(file), { encoding: "buffer" });
      return { type: "symlink", path, target };
    }
    if (kind === "other") throw unsupportedFile(show(file));
    const opened = await openRegularFile(toPathBytes(file), show(file), {
      wholeBytes: WHOLE_FILE_BYTES,
      nextBuffer,
    });
    return { type: "regular", path, ...opened };
  } catch (error) {
    throw toFileError(error, show(file));
  }
}

function kindOf(item: Stats | Dirent<Buffer>): FileKind {
  if (item.isFile()) return "regular";
  if (item.isDirectory()) return "directory";
  return item.isSymbolicLink() ? "symlink" : "other";
}

function toPathBytes(file: string): Buffer {
  return Buffer.from(file, "latin1");
}

function show(file: string): string {
  return toPathBytes(file).toString("utf8");
}
