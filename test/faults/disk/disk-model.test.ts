import { expect, test } from "vitest";

import { createRandom } from "../../random.ts";
import type { Operation } from "../recorder/operation-log.ts";
import { DiskModel, type IgnoresSync, type ImageNode } from "./disk-model.ts";
import { createLoss, type LossKind } from "./losses.ts";

type Step = Operation | readonly Operation[];

/** Operations that read like what they do; every handle is named after its path. */
const disk = {
  mkdir: (path: string): Step => ({ kind: "mkdir", path: `/disk/${path}` }),
  create: (path: string): Step => open(path, true),
  write: (path: string, text: string, offset = 0): Step => ({
    kind: "write",
    handle: path,
    offset,
    bytes: Buffer.from(text),
  }),
  truncate: (path: string, sizeBytes: number): Step => ({
    kind: "truncate",
    handle: path,
    sizeBytes,
  }),
  rename: (from: string, to: string): Step => ({
    kind: "rename",
    from: `/disk/${from}`,
    to: `/disk/${to}`,
  }),
  unlink: (path: string): Step => ({ kind: "unlink", path: `/disk/${path}` }),
  sync: (path: string): Step => [disk.beginSync(path), disk.endSync(path)].flat(),
  syncDirectory: (path: string): Step => [open(path, false), disk.sync(path)].flat(),
  beginSync: (path: string): Step => ({ kind: "sync-begin", handle: path, id: path }),
  endSync: (path: string): Step => ({ kind: "sync-end", id: path }),
};

function open(path: string, creates: boolean): Operation {
  const file = path === "" ? "/disk" : `/disk/${path}`;
  return { kind: "open", handle: path, path: file, creates, truncates: false };
}

/** What a crash after these steps leaves, as `path: bytes`; folders are listed when they are empty. */
function crash(steps: readonly Step[], loss: LossKind, ignores?: IgnoresSync): string[] {
  const model = new DiskModel("/disk", ignores);
  const operations = steps.flat();
  for (const operation of operations) model.apply(operation);
  const image = model.image(createLoss(loss, createRandom(1), operations.length));
  return list(image, "").toSorted((a, b) => a.localeCompare(b, "en"));
}

function list(node: ImageNode, path: string): string[] {
  if (Buffer.isBuffer(node)) return [`${path}: ${node.toString("latin1")}`];
  const children = [...node];
  if (children.length === 0) return path === "" ? [] : [`${path}/`];
  return children.flatMap(([name, child]) => list(child, path === "" ? name : `${path}/${name}`));
}

test("flushing a file keeps its bytes and not its name", () => {
  const steps = [disk.create("a"), disk.write("a", "bytes"), disk.sync("a")];
  expect(crash(steps, "all")).toEqual([]);
  expect(crash([...steps, disk.syncDirectory("")], "all")).toEqual(["a: bytes"]);
});

test("flushing a folder keeps names and not bytes", () => {
  const steps = [disk.create("a"), disk.write("a", "bytes"), disk.syncDirectory("")];
  expect(crash(steps, "all")).toEqual(["a: "]);
  expect(crash(steps, "bytes-but-sizes")).toEqual(["a: \0\0\0\0\0"]);
  expect(crash(steps, "none")).toEqual(["a: bytes"]);
});

test("a flush covers what came before it began, and counts once it ended", () => {
  const steps = [
    disk.create("a"),
    disk.syncDirectory(""),
    disk.write("a", "old"),
    disk.beginSync("a"),
    disk.write("a", "new"),
  ];
  expect(crash(steps, "all")).toEqual(["a: "]);
  expect(crash([...steps, disk.endSync("a")], "all")).toEqual(["a: old"]);
});

test("what lies in a folder whose own name was lost is lost", () => {
  const steps = [disk.mkdir("d"), disk.create("d/a"), disk.syncDirectory("d")];
  expect(crash(steps, "all")).toEqual([]);
  expect(crash([...steps, disk.syncDirectory("")], "all")).toEqual(["d/a: "]);
});

test("a rename happens as a whole or not at all", () => {
  const steps = [
    disk.mkdir("d"),
    disk.create("a"),
    disk.write("a", "1"),
    disk.sync("a"),
    disk.syncDirectory(""),
    disk.rename("a", "d/b"),
  ];
  expect(crash(steps, "all")).toEqual(["a: 1", "d/"]);
  expect(crash(steps, "bytes")).toEqual(["d/b: 1"]);
  expect(crash([...steps, disk.syncDirectory("d")], "all")).toEqual(["d/b: 1"]);
});

test("a flushed rename leaves no older name behind, even one that was never flushed", () => {
  const steps = [
    disk.mkdir("d"),
    disk.syncDirectory(""),
    disk.create("a"),
    disk.rename("a", "d/b"),
  ];
  expect(crash([...steps, disk.syncDirectory("d")], "none")).toEqual(["d/b: "]);
});

test("a removal that was not flushed may be undone", () => {
  const steps = [disk.create("a"), disk.syncDirectory(""), disk.unlink("a")];
  expect(crash(steps, "all")).toEqual(["a: "]);
  expect(crash(steps, "bytes")).toEqual([]);
  expect(crash([...steps, disk.syncDirectory("")], "all")).toEqual([]);
});

test("what is cut off and written again reads as zeros in between", () => {
  const steps = [
    disk.create("a"),
    disk.write("a", "abcdef"),
    disk.truncate("a", 2),
    disk.write("a", "z", 4),
  ];
  expect(crash(steps, "none")).toEqual(["a: ab\0\0z"]);
});

test("an ignored flush is as if it had never been asked for", () => {
  const steps = [disk.create("a"), disk.write("a", "1"), disk.sync("a"), disk.syncDirectory("")];
  expect(crash(steps, "all", (target) => target === "a")).toEqual(["a: "]);
  expect(crash(steps, "all", (target) => target === "")).toEqual([]);
});
