import { createHash } from "node:crypto";

import { isCacheError, type Logger } from "@glorious/core";
import { formatHash } from "@glorious/reapi";

import type { BazelScrubProgress, BazelScrubWork } from "../../housekeeping/bazel-scrub.ts";
import type { ObjectScan, ScannedObject } from "./object-scan.ts";
import type { TenantState } from "./tenant-state.ts";
import { decodeBlob } from "./zstd-form.ts";

export interface StoreScrubOptions {
  readonly state: TenantState;
  readonly scan: ObjectScan;
  readonly logger: Logger;
  readonly now: () => number;
  /** Told how much of this store is done, from 0 to 1. */
  readonly onFraction: (fraction: number) => void;
}

const ROWS_PER_PAGE = 200;
/** Takes 70 µs, which nobody notices who waits for an answer meanwhile. */
const HASH_BYTES = 128 * 1024;
/** What a small file costs the disk, and a small row the index, in bytes of a large one. */
const MIN_FILE_COST_BYTES = 32 * 1024;
const MIN_ROW_COST_BYTES = 2 * 1024;
const MAX_FINDINGS = 1000;
const MAX_UNANSWERED_IN_A_ROW = 100;
/** Most entries are blobs; values come after them. */
const FRACTION_OF_BLOBS = 0.95;

/**
 * Goes once through one tenant's blobs and values. Every file is looked for; bytes are read and hashed that were not
 * checked since the pass's bound. What is lost or damaged becomes absent at once, for the next upload to heal.
 */
export async function scrubStore(
  progress: BazelScrubProgress,
  work: BazelScrubWork,
  options: StoreScrubOptions,
): Promise<void> {
  const { state, scan, onFraction } = options;
  const pass = new StorePass(progress, work, options);
  let after: Uint8Array = new Uint8Array();
  for (;;) {
    const page = scan.blobs(after, ROWS_PER_PAGE);
    let seen = 0;
    for (const blob of page) {
      if (blob.id === seen) continue;
      seen = blob.id;
      const name = formatHash(blob.hash);
      await pass.check(blob, { kind: "blob", name, sha256: name }, (reason) =>
        state.lose(blob.hash, reason),
      );
    }
    await pass.endPage();
    const last = page.at(-1);
    if (last === undefined || page.length < ROWS_PER_PAGE) break;
    after = last.hash;
    onFraction((FRACTION_OF_BLOBS * ((after[0] ?? 0) * 256 + (after[1] ?? 0))) / 2 ** 16);
  }
  let place = { scopeId: 0, key: "" };
  for (;;) {
    const page = scan.values(place, ROWS_PER_PAGE);
    for (const value of page) {
      const { scopeId, key } = value;
      const sha256 = formatHash(value.sha256);
      await pass.check(value, { kind: "value", name: key, sha256 }, (reason) =>
        state.loseValue(scopeId, key, reason),
      );
    }
    await pass.endPage();
    const last = page.at(-1);
    if (last === undefined || page.length < ROWS_PER_PAGE) break;
    place = { scopeId: last.scopeId, key: last.key };
  }
}

interface Named {
  readonly kind: "blob" | "value";
  readonly name: string;
  readonly sha256: string;
}

class StorePass {
  readonly #progress: BazelScrubProgress;
  readonly #work: BazelScrubWork;
  readonly #options: StoreScrubOptions;
  #sound: number[] = [];
  #unansweredInARow = 0;

  constructor(progress: BazelScrubProgress, work: BazelScrubWork, options: StoreScrubOptions) {
    this.#progress = progress;
    this.#work = work;
    this.#options = options;
  }

  /** Lets others have their turn, and notes what was found good since the last time. */
  async endPage(): Promise<void> {
    await this.#work.pace(0);
    const sound = this.#sound;
    this.#sound = [];
    const { state, now } = this.#options;
    if (sound.length > 0) await state.write("markVerified", sound, now());
  }

  /** @param lose Makes it absent; tells the instance names that had it. */
  async check(
    object: ScannedObject,
    named: Named,
    lose: (reason: string) => Promise<readonly string[]>,
  ): Promise<void> {
    const { signal } = this.#work;
    signal.throwIfAborted();
    try {
      await this.#check(object, named, lose);
      this.#unansweredInARow = 0;
    } catch (error) {
      if (signal.aborted || !isCacheError(error, "UNAVAILABLE")) throw error;
      this.#progress.unanswered += 1;
      this.#unansweredInARow += 1;
      if (this.#unansweredInARow >= MAX_UNANSWERED_IN_A_ROW) throw error;
      const { kind, name } = named;
      this.#options.logger.warn("could not check what a Bazel cache holds", { kind, name, error });
    }
  }

  async #check(
    object: ScannedObject,
    { kind, name, sha256 }: Named,
    lose: (reason: string) => Promise<readonly string[]>,
  ): Promise<void> {
    const { checkedBeforeMs, pace, onScanned } = this.#work;
    const progress = this.#progress;
    const isDue = object.verifiedMs < checkedBeforeMs;
    if (!isDue && object.file === null) return;
    const find = (): Promise<string | undefined> =>
      isDue ? this.#findFault(object, sha256) : this.#findSizeFault(object);
    // What was read may have been badly transferred.
    const fault = (await find()) && (await find());
    const { sizeBytes, storedBytes, file } = object;
    const minCostBytes = file === null ? MIN_ROW_COST_BYTES : MIN_FILE_COST_BYTES;
    await pace(isDue ? Math.max(0, minCostBytes - sizeBytes) : 0);
    if (isDue) {
      progress.scanned += 1;
      progress.bytes += storedBytes;
      onScanned(storedBytes);
    }
    if (fault === undefined) {
      if (isDue) this.#sound.push(object.id);
      return;
    }
    // Evicted meanwhile, or lost by somebody else's finding.
    if (!this.#options.scan.isThere(object.id)) return;
    const instances = await lose(fault);
    progress.badTotal += 1;
    if (progress.bad.length >= MAX_FINDINGS) return;
    progress.bad.push({ kind, name, sizeBytes, reason: fault, instances });
  }

  async #findSizeFault({ file, storedBytes }: ScannedObject): Promise<string | undefined> {
    return sizeFault((await this.#options.state.files.stat(file ?? ""))?.sizeBytes, storedBytes);
  }

  async #findFault(object: ScannedObject, sha256: string): Promise<string | undefined> {
    const { state } = this.#options;
    const { id, file, storedBytes } = object;
    if (file === null) {
      const data = state.readInline(id);
      const fault = sizeFault(data?.length, storedBytes);
      return fault ?? (await this.#findContentFault(once(data), object, sha256));
    }
    const blob = await state.files.get(file, { signal: this.#work.signal });
    if (blob === undefined) return sizeFault(undefined, storedBytes);
    await using open = blob;
    const fault = sizeFault(open.sizeBytes, storedBytes);
    return fault ?? (await this.#findContentFault(open.stream(), object, sha256));
  }

  async #findContentFault(
    stored: AsyncIterable<Buffer>,
    { form, sizeBytes }: ScannedObject,
    sha256: string,
  ): Promise<string | undefined> {
    const { pace, signal } = this.#work;
    const hash = createHash("sha256");
    try {
      for await (const piece of form === 0 ? stored : decodeBlob(stored, sizeBytes, { signal })) {
        for (let start = 0; start < piece.length; start += HASH_BYTES) {
          const part = piece.subarray(start, start + HASH_BYTES);
          hash.update(part);
          await pace(part.length);
        }
      }
    } catch (error) {
      if (isCacheError(error, "CORRUPT") || isCacheError(error, "TRUNCATED")) {
        return `unreadable: ${error.message}`;
      }
      throw error;
    }
    const found = hash.digest("hex");
    return found === sha256 ? undefined : `its bytes hash to ${found}`;
  }
}

function sizeFault(foundBytes: number | undefined, storedBytes: number): string | undefined {
  if (foundBytes === undefined) return "gone from the store";
  return foundBytes === storedBytes ? undefined : `${foundBytes} bytes instead of ${storedBytes}`;
}

async function* once(bytes: Uint8Array | undefined): AsyncGenerator<Buffer> {
  if (bytes !== undefined) yield Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
