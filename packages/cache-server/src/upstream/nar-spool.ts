import { type FileHandle, open, unlink } from "node:fs/promises";
import { join } from "node:path";

/**
 * A file that is written once and followed meanwhile. It has no name: whatever becomes of the process, nothing of it
 * is left.
 *
 * Its last bytes are held back from readers until somebody has found all of it right.
 */
export interface NarSpool {
  /** Adds bytes, which may not change any more. @throws whatever the disk says. */
  write(chunk: Buffer): Promise<void>;
  /** All of it is written. */
  end(): void;
  /** All of it is right, or will be once it is ended. */
  release(): void;
  /** Readers get this error from now on. */
  fail(error: unknown): void;
  /** Waits for the first byte that readers may have, or for the end. @throws the error of `fail`. */
  ready(signal: AbortSignal): Promise<void>;
  /** Bytes from `start` to `end` or the end, for who holds it. @throws the error of `fail`. */
  follow(
    range: { readonly start: number; readonly end?: number },
    signal: AbortSignal,
  ): AsyncGenerator<Buffer>;
  /** The same for who finds out whether it is right: nothing is held back. */
  followAll(signal: AbortSignal): AsyncGenerator<Buffer>;
  /** Written so far. */
  readonly sizeBytes: number;
  /** Keeps the file for a reader until that is disposed of; `undefined` when it is gone already. */
  hold(): Disposable | undefined;
  /** Lets go of the file once nobody holds it any more. */
  close(): void;
}

/** What is smaller is answered once it is known to be right, or not at all. */
const HELD_BYTES = 64 * 1024;
const READ_BYTES = 256 * 1024;

/** @param directory an existing one. */
export async function openNarSpool(directory: string): Promise<NarSpool> {
  const file = join(directory, crypto.randomUUID());
  const handle = await open(file, "wx+", 0o600);
  try {
    await unlink(file);
  } catch (error) {
    await handle.close();
    throw error;
  }
  return createNarSpool(handle);
}

function createNarSpool(handle: FileHandle): NarSpool {
  let sizeBytes = 0;
  let isEnded = false;
  let isReleased = false;
  let failure: { readonly error: unknown } | undefined;
  let isClosed = false;
  let isGone = false;
  let holders = 0;
  let changed = Promise.withResolvers<void>();

  const tell = (): void => {
    const { resolve } = changed;
    changed = Promise.withResolvers();
    resolve();
  };
  const letGo = (): void => {
    if (!isClosed || holders > 0 || isGone) return;
    isGone = true;
    void handle.close();
  };
  const readable = (isHeldBack: boolean): number => {
    if (!isHeldBack || isReleased) return sizeBytes;
    return Math.max(0, sizeBytes - HELD_BYTES);
  };
  const isComplete = (isHeldBack: boolean): boolean => isEnded && (isReleased || !isHeldBack);

  const wait = async (signal: AbortSignal): Promise<void> => {
    signal.throwIfAborted();
    const aborted = Promise.withResolvers<never>();
    aborted.promise.catch(() => {});
    const onAbort = (): void => aborted.reject(signal.reason as Error);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      await Promise.race([changed.promise, aborted.promise]);
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  };

  async function* read(
    { start, end = Infinity }: { readonly start: number; readonly end?: number },
    isHeldBack: boolean,
    signal: AbortSignal,
  ): AsyncGenerator<Buffer> {
    let position = start;
    while (position < end) {
      if (failure !== undefined) throw failure.error;
      const available = Math.min(readable(isHeldBack), end) - position;
      if (available <= 0) {
        if (isComplete(isHeldBack)) return;
        await wait(signal);
        continue;
      }
      const buffer = Buffer.allocUnsafe(Math.min(available, READ_BYTES));
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, position);
      if (bytesRead === 0) throw new Error("The spool is shorter than what was written to it");
      position += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  }

  return {
    async write(chunk) {
      for (let done = 0; done < chunk.length;) {
        const { bytesWritten } = await handle.write(chunk, done, chunk.length - done, sizeBytes);
        done += bytesWritten;
        sizeBytes += bytesWritten;
      }
      tell();
    },
    end() {
      isEnded = true;
      tell();
    },
    release() {
      isReleased = true;
      tell();
    },
    fail(error) {
      failure ??= { error };
      tell();
    },
    async ready(signal) {
      for (;;) {
        if (failure !== undefined) throw failure.error;
        if (readable(true) > 0 || isComplete(true)) return;
        await wait(signal);
      }
    },
    follow: (range, signal) => read(range, true, signal),
    followAll: (signal) => read({ start: 0 }, false, signal),
    get sizeBytes() {
      return sizeBytes;
    },
    hold() {
      if (isGone) return undefined;
      holders += 1;
      let isHeld = true;
      return {
        [Symbol.dispose]() {
          if (!isHeld) return;
          isHeld = false;
          holders -= 1;
          letGo();
        },
      };
    },
    close() {
      isClosed = true;
      letGo();
    },
  };
}
