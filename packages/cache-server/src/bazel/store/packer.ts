import { setImmediate as nextTurn, setTimeout as pause } from "node:timers/promises";

import type { Logger } from "@glorious/core";

import { loseUnpacked } from "./lost-packs.ts";
import type { PackWriter } from "./pack-file.ts";
import type { InlineObject } from "./packing-scan.ts";
import type { TenantState } from "./tenant-state.ts";

/** What waits in the index before it is worth a pack of its own. */
const MIN_BYTES = 16 * 2 ** 20;
const MIN_OBJECTS = 50_000;
const MAX_PACK_BYTES = 64 * 2 ** 20;
const MAX_PACK_OBJECTS = 100_000;
/** Below a millisecond of reading, then others have their turn for some more. */
const OBJECTS_PER_SLICE = 64;
const PAUSE_MS = 2;
const IDS_PER_WRITE = 500;
const IDS_PER_LOOK = 1000;
/** Ids in a pack's table and name, and in memory, have no more. */
const MAX_ID = 2 ** 32 - 1;
/** A pack is written anew when more of it than this is of no use. */
const MAX_WASTE = 0.5;
const PACKS_PER_LOOK = 4;
const INTERVAL_MS = 5000;
const AFTER_FAILURE_MS = 60_000;

/**
 * Moves the bytes of small objects from the index, where an upload puts them with one commit, into packs, where a
 * read costs one `pread`.
 *
 * A pack is durable before the index forgets the bytes, so a crash anywhere leaves them in one of the two.
 */
export class Packer {
  readonly #state: TenantState;
  readonly #signal: AbortSignal;
  readonly #logger: Logger;
  #next = 0;
  /** What came since the last pack, as far as it was counted. */
  #counted: { upTo: number; objects: number; bytes: number } | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(
    state: TenantState,
    { signal, logger }: { readonly signal: AbortSignal; readonly logger: Logger },
  ) {
    this.#state = state;
    this.#signal = signal;
    this.#logger = logger;
  }

  /** Moves what waits, and looks after the packs, until the signal says to stop. */
  async run(): Promise<void> {
    while (!this.#signal.aborted) {
      try {
        await this.#inTurn(() => this.#trim());
        await loseUnpacked(this.#state, this.#signal);
        while (!this.#signal.aborted) {
          while ((await this.#isWorthIt()) && (await this.#inTurn(() => this.#packSome())))
            continue;
          await this.#inTurn(() => this.#lookAfterSome());
          await this.#sleep(INTERVAL_MS);
        }
      } catch (error) {
        if (this.#signal.aborted) return;
        this.#logger.error("Small blobs could not be moved into packs", { error });
        await this.#sleep(AFTER_FAILURE_MS);
      }
    }
  }

  /** Moves everything that waits, and writes anew what is mostly of no use. */
  packAll(): Promise<void> {
    return this.#inTurn(async () => {
      while (await this.#packSome()) continue;
      for (const { first } of this.#state.packs.ranges) await this.#lookAfter(first);
    });
  }

  async #isWorthIt(): Promise<boolean> {
    const { packs, index } = this.#state;
    const counted = this.#counted ?? { upTo: packs.lastId, objects: 0, bytes: 0 };
    this.#counted = counted;
    const end = Math.min(MAX_ID, index.packing.lastGivenId());
    while (counted.bytes < MIN_BYTES && counted.objects < MIN_OBJECTS) {
      if (counted.upTo >= end || this.#signal.aborted) return false;
      await nextTurn();
      const last = Math.min(end, counted.upTo + IDS_PER_LOOK);
      const { objects, bytes } = index.packing.live(counted.upTo + 1, last);
      counted.upTo = last;
      counted.objects += objects;
      counted.bytes += bytes;
    }
    return true;
  }

  /** Makes one pack; false when there is nothing for it. */
  async #packSome(): Promise<boolean> {
    const { packs, index } = this.#state;
    this.#counted = undefined;
    await using writer = await packs.startPack();
    let first = 0;
    let last = packs.lastId;
    while (writer.dataBytes < MAX_PACK_BYTES && writer.count < MAX_PACK_OBJECTS) {
      this.#signal.throwIfAborted();
      const objects = index.packing
        .inline(last, OBJECTS_PER_SLICE)
        .filter(({ id }) => id <= MAX_ID);
      if (objects.length === 0) break;
      first ||= objects[0]?.id ?? 0;
      last = objects.at(-1)?.id ?? last;
      await writer.add(objects);
      await pause(PAUSE_MS);
    }
    if (first === 0) return false;
    await packs.finishPack(writer, { first, last });
    await this.#forgetInline(first, last);
    return true;
  }

  /** What a crash left in the index of what is in packs. */
  async #trim(): Promise<void> {
    const { packs, index } = this.#state;
    const inline = index.packing.firstInline();
    if (inline === undefined) return;
    for (const { first, last } of packs.ranges) {
      if (last >= inline) await this.#forgetInline(Math.max(first, inline), last);
    }
  }

  async #forgetInline(first: number, last: number): Promise<void> {
    // Others' writes have their turn in between.
    for (let id = first; id <= last; id += IDS_PER_WRITE) {
      if (this.#signal.aborted) return;
      await this.#state.write("deleteContents", id, Math.min(last, id + IDS_PER_WRITE - 1));
    }
  }

  async #lookAfterSome(): Promise<void> {
    const { ranges } = this.#state.packs;
    for (let step = 0; step < Math.min(PACKS_PER_LOOK, ranges.length); step += 1) {
      await nextTurn();
      this.#next = (this.#next + 1) % ranges.length;
      const range = ranges[this.#next];
      if (range !== undefined) await this.#lookAfter(range.first);
    }
  }

  /** Deletes a pack that nothing needs, and writes one anew of which little is needed. */
  async #lookAfter(first: number): Promise<void> {
    const { packs, index } = this.#state;
    const range = packs.ranges.find((each) => each.first === first);
    if (range === undefined) return;
    let [liveObjects, liveBytes] = [0, 0];
    for (let id = first; id <= range.last; id += IDS_PER_LOOK) {
      await nextTurn();
      this.#signal.throwIfAborted();
      const live = index.packing.live(id, Math.min(range.last, id + IDS_PER_LOOK - 1));
      liveObjects += live.objects;
      liveBytes += live.bytes;
    }
    if (liveObjects === 0) {
      await packs.deletePack(first);
      return;
    }
    if (liveBytes >= range.dataBytes * (1 - MAX_WASTE)) return;
    await using writer = await packs.startPack();
    for (let id = first; id <= range.last; id += OBJECTS_PER_SLICE) {
      this.#signal.throwIfAborted();
      const end = Math.min(range.last, id + OBJECTS_PER_SLICE - 1);
      await this.#copy(index.packing.liveIds(id, end), writer);
    }
    await packs.finishPack(writer, range);
  }

  async #copy(ids: readonly number[], writer: PackWriter): Promise<void> {
    const found: InlineObject[] = [];
    for (const id of ids) {
      const data = this.#state.packs.read(id);
      if (data !== undefined) found.push({ id, data });
    }
    if (found.length === 0) return;
    await writer.add(found);
    await pause(PAUSE_MS);
  }

  /** One thing at a time. */
  async #inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => {});
    return await turn;
  }

  async #sleep(durationMs: number): Promise<void> {
    await pause(durationMs, undefined, { signal: this.#signal, ref: false }).catch(() => {});
  }
}
