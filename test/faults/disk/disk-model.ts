import path from "node:path";

import type { Operation } from "../recorder/operation-log.ts";

/** A change of a file's bytes that no finished flush covers. */
export type DataChange =
  | { readonly at: number; readonly kind: "write"; readonly offset: number; readonly bytes: Buffer }
  | { readonly at: number; readonly kind: "truncate"; readonly sizeBytes: number };

/** A change of names that no finished flush of its directory covers. */
export interface NameChange {
  readonly at: number;
  readonly kind: "create" | "rename" | "link" | "unlink" | "rmdir" | "mkdir";
  /** The path it is about; for a rename the new one. */
  readonly path: string;
  /** Flushing this directory makes the change durable. */
  readonly home: DirectoryNode;
  readonly steps: ReadonlyArray<{
    readonly directory: DirectoryNode;
    readonly name: string;
    readonly node: DiskNode | undefined;
  }>;
}

export interface FileNode {
  readonly kind: "file";
  /** The bytes as of the last flush. */
  durable: Buffer;
  pending: DataChange[];
}

export interface DirectoryNode {
  readonly kind: "directory";
  /** The names as of the last flush. */
  readonly durable: Map<string, DiskNode>;
  /** The names as the process sees them. */
  readonly current: Map<string, DiskNode>;
}

export type DiskNode = FileNode | DirectoryNode;

/** What a crash leaves: names, and each file's bytes. */
export type ImageNode = Buffer | ImageDirectory;
export type ImageDirectory = ReadonlyMap<string, ImageNode>;

/** Decides what of the unflushed a crash keeps. */
export interface Loss {
  keepsName(change: NameChange): boolean;
  /** What a file becomes; `applyDataChanges` with a filter of its own is the usual way. */
  contents(file: FileNode): Buffer;
}

/**
 * Tells flushes that are to be taken as never asked for. `target` is relative to the root, "" for itself;
 * `earlier` is how often it was flushed before.
 */
export type IgnoresSync = (target: string, earlier: number) => boolean;

/**
 * A disk below one directory, as POSIX allows it to behave: a flush of a file makes its bytes durable and not its
 * name, a flush of a directory makes the names in it durable, nothing else is promised. In one point kinder, as
 * every file system with a journal is: a rename happens as a whole or not at all.
 */
export class DiskModel {
  readonly root: DirectoryNode = createDirectory();
  readonly #rootPath: string;
  readonly #ignoresSync: IgnoresSync;
  readonly #handles = new Map<string, { readonly node: DiskNode; readonly path: string }>();
  readonly #syncs = new Map<
    string,
    { readonly node: DiskNode; readonly path: string; at: number }
  >();
  readonly #syncCounts = new Map<string, number>();
  #pendingNames: NameChange[] = [];
  #at = 0;

  constructor(rootPath: string, ignoresSync: IgnoresSync = () => false) {
    this.#rootPath = rootPath;
    this.#ignoresSync = ignoresSync;
  }

  /** Puts a file or directory there as durable; parents come first. */
  place(relativePath: string, contents: Buffer | "directory"): void {
    const { directory, name } = this.#locate(path.join(this.#rootPath, relativePath));
    const node: DiskNode =
      contents === "directory"
        ? createDirectory()
        : { kind: "file", durable: contents, pending: [] };
    directory.current.set(name, node);
    directory.durable.set(name, node);
  }

  /** Takes the next operation of the record. */
  apply(operation: Operation): void {
    this.#at += 1;
    switch (operation.kind) {
      case "open":
        return this.#open(operation);
      case "close":
        this.#handles.delete(operation.handle);
        return;
      case "write": {
        const { offset, bytes } = operation;
        this.#file(operation.handle).pending.push({ at: this.#at, kind: "write", offset, bytes });
        return;
      }
      case "truncate": {
        const { sizeBytes } = operation;
        this.#file(operation.handle).pending.push({ at: this.#at, kind: "truncate", sizeBytes });
        return;
      }
      case "sync-begin":
        this.#syncs.set(operation.id, { ...this.#handle(operation.handle), at: this.#at });
        return;
      case "sync-end":
        return this.#endSync(operation.id);
      case "mkdir":
        return this.#change("mkdir", operation.path, createDirectory());
      case "unlink":
      case "rmdir":
        return this.#change(operation.kind, operation.path, undefined);
      case "rename":
      case "link":
        return this.#move(operation.kind, operation.from, operation.to);
      case "mark":
    }
  }

  /** The disk after a crash at this point. */
  image(loss: Loss): ImageDirectory {
    const kept = new Map<DirectoryNode, Map<string, DiskNode>>();
    const namesOf = (directory: DirectoryNode): Map<string, DiskNode> => {
      const names = kept.get(directory) ?? new Map(directory.durable);
      kept.set(directory, names);
      return names;
    };
    for (const change of this.#pendingNames) {
      if (!loss.keepsName(change)) continue;
      for (const { directory, name, node } of change.steps) setName(namesOf(directory), name, node);
    }
    const render = (node: DiskNode): ImageNode =>
      node.kind === "file"
        ? loss.contents(node)
        : new Map([...namesOf(node)].map(([name, child]) => [name, render(child)]));
    return render(this.root) as ImageDirectory;
  }

  #open({ handle, path: file, creates, truncates }: Operation & { kind: "open" }): void {
    if (file === this.#rootPath) {
      this.#handles.set(handle, { node: this.root, path: file });
      return;
    }
    const { directory, name } = this.#locate(file);
    if (!directory.current.has(name)) {
      if (!creates) throw new Error(`${file} was opened and is not in the model`);
      this.#change("create", file, { kind: "file", durable: Buffer.alloc(0), pending: [] });
    }
    const node = directory.current.get(name);
    if (node === undefined) throw new Error(`${file} could not be created in the model`);
    this.#handles.set(handle, { node, path: file });
    if (truncates && node.kind === "file") {
      node.pending.push({ at: this.#at, kind: "truncate", sizeBytes: 0 });
    }
  }

  #endSync(id: string): void {
    const sync = this.#syncs.get(id);
    if (sync === undefined) throw new Error(`The flush ${id} ended and never began`);
    this.#syncs.delete(id);
    const { node, at } = sync;
    const target = path.relative(this.#rootPath, sync.path);
    const earlier = this.#syncCounts.get(target) ?? 0;
    this.#syncCounts.set(target, earlier + 1);
    if (this.#ignoresSync(target, earlier)) return;
    if (node.kind === "file") {
      node.durable = applyDataChanges(
        node.durable,
        node.pending.filter((change) => change.at < at),
      );
      node.pending = node.pending.filter((change) => change.at >= at);
      return;
    }
    const isCovered = (change: NameChange): boolean => change.home === node && change.at < at;
    const covered = this.#pendingNames.filter(isCovered);
    this.#pendingNames = this.#pendingNames.filter((change) => !isCovered(change));
    for (const change of covered) this.#makeDurable(change);
  }

  #makeDurable(change: NameChange): void {
    for (const { directory, name, node } of change.steps) {
      setName(directory.durable, name, node);
      // What happened to that name before is over, wherever it is still waiting for a flush.
      this.#pendingNames = this.#pendingNames
        .map((other) =>
          other.at > change.at
            ? other
            : {
                ...other,
                steps: other.steps.filter(
                  (step) => step.directory !== directory || step.name !== name,
                ),
              },
        )
        .filter((other) => other.steps.length > 0);
    }
  }

  #change(kind: NameChange["kind"], file: string, node: DiskNode | undefined): void {
    const { directory, name } = this.#locate(file);
    this.#addNames(kind, file, directory, [{ directory, name, node }]);
  }

  #move(kind: "rename" | "link", from: string, to: string): void {
    const source = this.#locate(from);
    const target = this.#locate(to);
    const node = source.directory.current.get(source.name);
    if (node === undefined) throw new Error(`${from} was moved and is not in the model`);
    this.#addNames(kind, to, target.directory, [
      ...(kind === "rename" ? [{ ...source, node: undefined }] : []),
      { ...target, node },
    ]);
  }

  #addNames(
    kind: NameChange["kind"],
    file: string,
    home: DirectoryNode,
    steps: NameChange["steps"],
  ): void {
    for (const { directory, name, node } of steps) setName(directory.current, name, node);
    this.#pendingNames.push({
      at: this.#at,
      kind,
      path: path.relative(this.#rootPath, file),
      home,
      steps,
    });
  }

  #locate(file: string): { readonly directory: DirectoryNode; readonly name: string } {
    const parts = path.relative(this.#rootPath, file).split(path.sep);
    const name = parts.pop() ?? "";
    let directory: DirectoryNode = this.root;
    for (const part of parts) {
      const next = directory.current.get(part);
      if (next?.kind !== "directory") throw new Error(`${file} is not in the model, at ${part}`);
      directory = next;
    }
    return { directory, name };
  }

  #handle(handle: string): { readonly node: DiskNode; readonly path: string } {
    const found = this.#handles.get(handle);
    if (found === undefined) throw new Error(`The handle ${handle} is not open in the model`);
    return found;
  }

  #file(handle: string): FileNode {
    const { node } = this.#handle(handle);
    if (node.kind !== "file") throw new Error(`The handle ${handle} is a directory's`);
    return node;
  }
}

/** The bytes after some changes, in order. */
export function applyDataChanges(base: Buffer, changes: readonly DataChange[]): Buffer {
  if (changes.length === 0) return base;
  let sizeBytes = base.length;
  let capacity = sizeBytes;
  for (const change of changes) {
    if (change.kind === "write") {
      capacity = Math.max(capacity, change.offset + change.bytes.length);
    } else {
      capacity = Math.max(capacity, change.sizeBytes);
    }
  }
  const bytes = Buffer.alloc(capacity);
  base.copy(bytes);
  for (const change of changes) {
    if (change.kind === "write") {
      change.bytes.copy(bytes, change.offset);
      sizeBytes = Math.max(sizeBytes, change.offset + change.bytes.length);
    } else {
      if (change.sizeBytes < sizeBytes) bytes.fill(0, change.sizeBytes, sizeBytes);
      sizeBytes = change.sizeBytes;
    }
  }
  return bytes.subarray(0, sizeBytes);
}

function createDirectory(): DirectoryNode {
  return { kind: "directory", durable: new Map(), current: new Map() };
}

function setName(names: Map<string, DiskNode>, name: string, node: DiskNode | undefined): void {
  if (node === undefined) names.delete(name);
  else names.set(name, node);
}
