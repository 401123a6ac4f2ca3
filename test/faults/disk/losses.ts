import type { Random } from "../../random.ts";
import { applyDataChanges, type DataChange, type FileNode, type Loss } from "./disk-model.ts";

/** How a crash treats what was not flushed; each is something that file systems really do. */
export const LOSS_KINDS = [
  /** Everything unflushed is gone: the cruellest legal disk. */
  "all",
  /** Nothing is gone: what kill -9 leaves. */
  "none",
  /** Names are kept, bytes are not: files are empty or as old as their last flush. */
  "bytes",
  /** Names and sizes are kept, bytes read as zeros: delayed allocation, a journal of metadata only. */
  "bytes-but-sizes",
  /** Bytes are kept, names are not. */
  "names",
  /** Names up to some moment are kept, and any of the bytes: a journal with writeback. */
  "after-a-moment",
  /** Any change may be kept or lost on its own, down to the sector. */
  "some",
] as const;

export type LossKind = (typeof LOSS_KINDS)[number];

/** A disk never tears less than this. */
const SECTOR_BYTES = 512;

/** Chooses, by chance where the kind leaves a choice. `lastAt` is how many operations came before the crash. */
export function createLoss(kind: LossKind, random: Random, lastAt: number): Loss {
  return LOSSES[kind](random, lastAt);
}

const keepNames = (): boolean => true;
const loseNames = (): boolean => false;

const LOSSES: Readonly<Record<LossKind, (random: Random, lastAt: number) => Loss>> = {
  all: () => ({ keepsName: loseNames, contents: loseAll }),
  none: () => ({ keepsName: keepNames, contents: keepAll }),
  bytes: () => ({ keepsName: keepNames, contents: loseAll }),
  "bytes-but-sizes": () => ({ keepsName: keepNames, contents: keepSizes }),
  names: () => ({ keepsName: loseNames, contents: keepAll }),
  "after-a-moment": (random, lastAt) => {
    const moment = random.below(lastAt + 1);
    return {
      keepsName: (change) => change.at <= moment,
      contents: (file) => keepSome(file, random, random.next()),
    };
  },
  some: (random) => {
    const share = random.next();
    return {
      keepsName: () => random.chance(share),
      contents: (file) => keepSome(file, random, random.next()),
    };
  },
};

function loseAll({ durable }: FileNode): Buffer {
  return durable;
}

function keepAll({ durable, pending }: FileNode): Buffer {
  return applyDataChanges(durable, pending);
}

function keepSizes(file: FileNode): Buffer {
  const { length } = keepAll(file);
  const bytes = Buffer.alloc(length);
  file.durable.copy(bytes, 0, 0, length);
  return bytes;
}

function keepSome({ durable, pending }: FileNode, random: Random, share: number): Buffer {
  const kept: DataChange[] = [];
  for (const change of pending) {
    if (change.kind === "truncate") {
      if (random.chance(share)) kept.push(change);
      continue;
    }
    const { at, offset, bytes } = change;
    for (let start = 0; start < bytes.length;) {
      const end = Math.min(bytes.length, start + SECTOR_BYTES - ((offset + start) % SECTOR_BYTES));
      if (random.chance(share)) {
        kept.push({ at, kind: "write", offset: offset + start, bytes: bytes.subarray(start, end) });
      }
      start = end;
    }
  }
  return applyDataChanges(durable, kept);
}
