import { readFile, readlink, realpath, rm } from "node:fs/promises";
import { dirname, resolve } from "node:path";

import { CacheError, makeFolder } from "@glorious/core";

import type { FileChange, FileState } from "./file-change.ts";
import { replaceFile } from "./replace-file.ts";

/** Reads a file, one character a byte. */
export async function readState(path: string): Promise<FileState> {
  try {
    return { path, text: await readFile(path, "latin1") };
  } catch (error) {
    const failure = error as NodeJS.ErrnoException;
    if (failure.code === "ENOENT") return { path, text: undefined };
    // Node's own error does not name the file when it fails after the file was opened.
    failure.path ??= path;
    throw failure;
  }
}

/**
 * Does what was planned, all of it or nothing: when one file cannot be written, those before it become
 * what they were. A new file that holds a token is readable by its owner alone.
 */
export async function applyChanges(changes: readonly FileChange[]): Promise<void> {
  for (const { path } of changes) await requireChangeable(path);
  const done: FileChange[] = [];
  try {
    for (const change of changes) {
      const old = await readState(change.path);
      await applyChange(change, old);
      done.push({ ...old, isSecret: change.isSecret });
    }
  } catch (error) {
    for (const old of done.toReversed()) {
      await applyChange(old, await readState(old.path)).catch(() => {});
    }
    throw error;
  }
}

async function applyChange(
  { path, text, isSecret, isProgram = false }: FileChange,
  old: FileState,
): Promise<void> {
  if (text === undefined) {
    await rm(path, { force: true });
    return;
  }
  await makeFolder(dirname(path));
  const isNew = old.text === undefined;
  const mode = isProgram ? 0o755 : isNew && isSecret ? 0o600 : undefined;
  await replaceFile(path, Buffer.from(text, "latin1"), mode === undefined ? {} : { mode });
}

/** NixOS and home-manager generate these files; a change there would not even survive. */
async function requireChangeable(path: string): Promise<void> {
  const link = await readlink(path).catch(() => undefined);
  if (link === undefined) return;
  const target = await realpath(path).catch(() => undefined);
  const shown = target ?? resolve(dirname(path), link);
  if (shown.startsWith("/nix/store/")) {
    throw new CacheError("UNSUPPORTED", `${path} is generated: it leads to ${shown}`, {
      hint: "Put the settings that the command shows with --dry-run into your NixOS or home-manager configuration.",
    });
  }
  if (target !== undefined) return;
  throw new CacheError("NOT_FOUND", `${path} is a link to ${shown}, which does not exist`, {
    hint: "Make the file it leads to, or remove the link.",
  });
}
