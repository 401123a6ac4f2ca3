import { EMPTY_DIGEST, parseHash } from "@glorious/reapi";

import type { MemoryShare } from "../memory/memory-pool.ts";
import type { ActionRow } from "./bazel-index.ts";
import { KeyTable, type Slots } from "./key-table.ts";
import { LOOK_INTERVAL_MS } from "./lost-files.ts";
import { type Digests, wordsOf } from "./packed-digests.ts";
import { type LoggedRecord, RecordLog } from "./record-log.ts";

/** An ActionResult whose every blob was found in the table of blobs. */
interface RememberedAction {
  readonly result: Buffer;
  /** Slots of what it needs and their generations, in turn. */
  readonly needs: readonly number[];
  /** The removals of the table of blobs when all of them were last seen there. */
  wholeAt: number;
  /** When the files of what it needs were last looked for; infinite when none of it lies in a file. */
  readonly lookedAtMs: number;
}

/** Slots and generations of what is looked up again as fast as it would be remembered. */
const QUICK_NEEDS = 2 * 8;

const EMPTY_WORDS = wordsOf(parseHash(EMPTY_DIGEST.hash));

/** Whether the digest is that of nothing, which is never stored and always there. */
export function isEmptyDigest(words: Int32Array, from: number, sizeBytes: number): boolean {
  return sizeBytes === 0 && EMPTY_WORDS.every((word, at) => word === words[from + at]);
}

/**
 * Remembers ActionResults: as the index has them, one behind the other, as many as there is memory for; and those that
 * need much or lie in files, together with where the blobs they need are remembered, so that asking for one again
 * looks at no hash but its own.
 */
export class ActionMemory {
  readonly table: KeyTable<RememberedAction>;
  readonly #blobs: Slots;
  /** Three quarters of the memory: one that lies here takes half of what it takes with an object of its own. */
  readonly #log: RecordLog;

  constructor(options: {
    readonly blobs: Slots;
    readonly maxEntries: number;
    readonly maxBytes: number;
    readonly memory: MemoryShare;
  }) {
    const { memory } = options;
    this.#blobs = options.blobs;
    this.#log = new RecordLog({ maxBytes: (options.maxBytes * 3) / 4, memory });
    this.table = new KeyTable({
      maxEntries: options.maxEntries,
      maxValueBytes: options.maxBytes / 4,
      valueSize: ({ result, needs }) => result.length + 8 * needs.length + 250,
      memory,
    });
  }

  /** Bytes of memory that it takes. */
  get bytes(): number {
    return this.table.bytes + this.#log.bytes;
  }

  /** Gives back about so many bytes. */
  release(sizeBytes: number): void {
    const ofLog = this.bytes === 0 ? 0 : sizeBytes * (this.#log.bytes / this.bytes);
    if (ofLog > 0) this.#log.release(ofLog);
    this.table.release(sizeBytes - ofLog);
  }

  /** The ActionResult in a slot, when it is known to be whole; counts as a use of it and of all it needs. */
  recall(slot: number, period: number, nowMs: number): Buffer | undefined {
    const { table } = this;
    const action = table.value(slot);
    if (action === undefined || !this.#isWhole(action)) return undefined;
    if (action.lookedAtMs + LOOK_INTERVAL_MS <= nowMs) return undefined;
    if (table.touchedOf(slot) < period) {
      // First what it needs: an ActionResult must never be the fresher one.
      for (let at = 0; at < action.needs.length; at += 2) {
        this.#blobs.touch(action.needs[at] as number, period);
      }
      table.touch(slot, period);
    }
    return action.result;
  }

  /** The ActionResult in a slot as the index has it, when memory has it; its bytes do not change. */
  recallRow(slot: number): ActionRow | undefined {
    const record = this.#log.read(this.table.placeOf(slot));
    if (record === undefined) return undefined;
    return {
      result: record.main,
      refersTo: record.extra,
      accessed: this.table.touchedOf(slot),
    };
  }

  /** Remembers what the index says of the ActionResult in a slot. */
  keepRow(slot: number, { result, refersTo }: Pick<ActionRow, "result" | "refersTo">): void {
    this.table.setPlace(slot, this.#log.append({ main: result, extra: refersTo }));
  }

  /** The same while nothing has to go for it; false when it would, and is not remembered. */
  learn(slot: number, accessed: number, record: LoggedRecord): boolean {
    this.table.noteAccess(slot, accessed);
    if (this.#log.read(this.table.placeOf(slot)) !== undefined) return true;
    if (this.#log.isFullFor(record.main.length + (record.extra?.length ?? 0))) return false;
    this.table.setPlace(slot, this.#log.append(record));
    return true;
  }

  /**
   * The slots of all blobs in a list, used in this period; `undefined` when one is missing.
   *
   * @param lookUp Finds a blob's slot in memory or index, 0 when it is absent.
   */
  resolve(
    refersTo: Digests,
    period: number,
    lookUp: (words: Int32Array, from: number, sizeBytes: number) => number,
  ): number[] | undefined {
    const { words } = refersTo;
    const needs: number[] = [];
    for (let index = 0; index < refersTo.length; index += 1) {
      const sizeBytes = refersTo.sizeBytes(index);
      if (isEmptyDigest(words, 8 * index, sizeBytes)) continue;
      const slot = lookUp(words, 8 * index, sizeBytes);
      if (slot === 0) return undefined;
      this.#blobs.touch(slot, period);
      needs.push(slot, this.#blobs.generationOf(slot));
    }
    return needs;
  }

  /** Remembers that there is such an ActionResult; its slot, 0 when there is no room. */
  note(scopeId: number, words: Int32Array, from: number, accessed: number): number {
    const { table } = this;
    const slot = table.find(scopeId, words, from);
    if (slot === 0) return table.add(scopeId, words, from, { sizeBytes: 0, accessed });
    table.noteAccess(slot, accessed);
    return slot;
  }

  /** Remembers an ActionResult that was just stored, and nothing of what it was before; its slot, 0 without room. */
  replace(scopeId: number, words: Int32Array, from: number, row: ActionRow): number {
    const slot = this.note(scopeId, words, from, row.accessed);
    if (slot === 0) return 0;
    this.table.dropValue(slot);
    this.keepRow(slot, row);
    return slot;
  }

  /** Notes a use of an ActionResult whose needs were just resolved, and remembers them when that is worth it. */
  use(
    slot: number,
    action: {
      readonly result: Uint8Array;
      readonly needs: readonly number[];
      readonly period: number;
      readonly lookedAtMs: number;
    },
  ): void {
    const { table } = this;
    const { result, needs, period, lookedAtMs } = action;
    const isQuick = lookedAtMs === Infinity && needs.length <= QUICK_NEEDS;
    if (!isQuick || this.#log.read(table.placeOf(slot)) === undefined) {
      table.putValue(slot, {
        // A copy, into memory that Node hands out in larger pieces: a hundred thousand pieces with an owner each
        // take more than they hold.
        result: Buffer.from(result),
        needs,
        wholeAt: this.#blobs.removals,
        lookedAtMs,
      });
    }
    table.touch(slot, period);
  }

  #isWhole(action: RememberedAction): boolean {
    const blobs = this.#blobs;
    if (action.wholeAt === blobs.removals) return true;
    const { needs } = action;
    for (let at = 0; at < needs.length; at += 2) {
      if (blobs.generationOf(needs[at] as number) !== needs[at + 1]) return false;
    }
    action.wholeAt = blobs.removals;
    return true;
  }
}
