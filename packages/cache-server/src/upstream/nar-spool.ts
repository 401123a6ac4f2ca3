import { type FileHandle, open, rm } from "node:fs/promises";
import { join } from "node:path";

/**
 * A file that is written once and followed meanwhile, mostly out of memory: who keeps up with the writer reads what
 * has just come, and not the disk.
 *
 * Its last bytes are held back from readers until somebody has found all of it right.
 */
export interface NarSpool {
  /** Adds bytes, which may not change any more; waits while the disk is behind. @throws whatever the disk says. */
  write(chunk: Buffer): Promise<void>;
  /** All of it was given to `write`. */
  end(): void;
  /** All of it is right. */
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
  /** The ended file, whole on the disk, for who moves it elsewhere. @throws whatever the disk says. */
  file(): Promise<string>;
  /** Keeps the file for a reader until that is disposed of; `undefined` when it is gone already. */
  hold(): Disposable | undefined;
  /** Lets go of the file once nobody holds it any more. */
  close(): void;
}

/** What is smaller is answered once it is known to be right, or not at all. */
const HELD_BYTES = 64 * 1024;
const READ_BYTES = 256 * 1024;
/** Written at once. */
const WRITE_BYTES = 512 * 1024;
/** What came last and is on the disk already stays in memory for who is only a little behind. */
const RECENT_BYTES = 512 * 1024;
/** More than this waits for the disk. */
const MAX_UNWRITTEN_BYTES = 2 * 2 ** 20;

/** @param directory an existing one, of which what is left there after a crash is removed by its owner. */
export function createNarSpool(directory: string): NarSpool {
  return new Spool(join(directory, crypto.randomUUID()));
}

class Spool implements NarSpool {
  sizeBytes = 0;
  readonly #path: string;
  #handle: Promise<FileHandle> | undefined;
  /** What came last, in order, from `#recentStart` on; at least all that is not on the disk. */
  #recent: Buffer[] = [];
  #recentStart = 0;
  #writtenBytes = 0;
  /** The chunk of `#recent` that is to be written next. */
  #nextWrite = 0;
  #writing: Promise<void> | undefined;
  #diskError: { readonly error: unknown } | undefined;
  #isEnded = false;
  #isReleased = false;
  #failure: { readonly error: unknown } | undefined;
  #isClosed = false;
  #isGone = false;
  #holders = 0;
  #changed = Promise.withResolvers<void>();

  constructor(path: string) {
    this.#path = path;
  }

  async write(chunk: Buffer): Promise<void> {
    this.#recent.push(chunk);
    this.sizeBytes += chunk.length;
    this.#tell();
    if (this.sizeBytes - this.#writtenBytes >= WRITE_BYTES) this.#startWriting();
    while (this.sizeBytes - this.#writtenBytes > MAX_UNWRITTEN_BYTES) {
      this.#startWriting();
      await this.#writing;
    }
    this.#requireDisk();
  }

  end(): void {
    this.#isEnded = true;
    this.#tell();
  }

  release(): void {
    this.#isReleased = true;
    this.#tell();
  }

  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#tell();
  }

  async ready(signal: AbortSignal): Promise<void> {
    using _ = this.#wakeOn(signal);
    for (;;) {
      signal.throwIfAborted();
      if (this.#failure !== undefined) throw this.#failure.error;
      if (this.#readableBytes(true) > 0 || this.#isComplete(true)) return;
      await this.#changed.promise;
    }
  }

  follow(
    range: { readonly start: number; readonly end?: number },
    signal: AbortSignal,
  ): AsyncGenerator<Buffer> {
    return this.#read(range, true, signal);
  }

  followAll(signal: AbortSignal): AsyncGenerator<Buffer> {
    return this.#read({ start: 0 }, false, signal);
  }

  async file(): Promise<string> {
    // A file of no bytes is one as well.
    await this.#open();
    while (this.#writtenBytes < this.sizeBytes) {
      this.#requireDisk();
      this.#startWriting();
      await this.#writing;
    }
    this.#requireDisk();
    return this.#path;
  }

  hold(): Disposable | undefined {
    if (this.#isGone) return undefined;
    this.#holders += 1;
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        this.#holders -= 1;
        if (this.#isEnded && this.#holders <= 1) this.#forgetWritten(0);
        this.#letGo();
      },
    };
  }

  close(): void {
    this.#isClosed = true;
    this.#letGo();
  }

  #tell(): void {
    const { resolve } = this.#changed;
    this.#changed = Promise.withResolvers();
    resolve();
  }

  /** Whoever waits for a change also looks at the signal then. */
  #wakeOn(signal: AbortSignal): Disposable {
    const onAbort = (): void => this.#tell();
    signal.addEventListener("abort", onAbort, { once: true });
    return { [Symbol.dispose]: () => signal.removeEventListener("abort", onAbort) };
  }

  #requireDisk(): void {
    if (this.#diskError !== undefined) throw this.#diskError.error;
  }

  #open(): Promise<FileHandle> {
    this.#handle ??= open(this.#path, "wx+", 0o600);
    return this.#handle;
  }

  #startWriting(): void {
    this.#writing ??= this.#writeOut()
      .catch((error: unknown) => {
        this.#diskError ??= { error };
        // Nobody waits for a disk that takes no more.
        this.#writtenBytes = this.sizeBytes;
      })
      .finally(() => (this.#writing = undefined));
  }

  async #writeOut(): Promise<void> {
    const handle = await this.#open();
    const chunks = this.#recent.slice(this.#nextWrite);
    const sizeBytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    const { bytesWritten } = await handle.writev(chunks, this.#writtenBytes);
    if (bytesWritten < sizeBytes) {
      // A full disk ends a write early; only the next one says why.
      const rest = Buffer.concat(chunks).subarray(bytesWritten);
      for (let done = 0; done < rest.length;) {
        const at = this.#writtenBytes + bytesWritten + done;
        done += (await handle.write(rest, done, rest.length - done, at)).bytesWritten;
      }
    }
    this.#writtenBytes += sizeBytes;
    this.#nextWrite += chunks.length;
    this.#forgetWritten(this.#holders > 1 || !this.#isEnded ? RECENT_BYTES : 0);
  }

  #forgetWritten(keptBytes: number): void {
    let dropped = 0;
    let start = this.#recentStart;
    while (dropped < this.#nextWrite) {
      const next = start + (this.#recent[dropped]?.length ?? 0);
      if (this.sizeBytes - next < keptBytes) break;
      start = next;
      dropped += 1;
    }
    if (dropped === 0) return;
    this.#recent = this.#recent.slice(dropped);
    this.#nextWrite -= dropped;
    this.#recentStart = start;
  }

  #letGo(): void {
    if (!this.#isClosed || this.#holders > 0 || this.#isGone) return;
    this.#isGone = true;
    this.#recent = [];
    void this.#remove();
  }

  async #remove(): Promise<void> {
    await this.#writing;
    const handle = await this.#handle?.catch(() => undefined);
    await handle?.close();
    await rm(this.#path, { force: true });
  }

  #readableBytes(isHeldBack: boolean): number {
    if (!isHeldBack || this.#isReleased) return this.sizeBytes;
    return Math.max(0, this.sizeBytes - HELD_BYTES);
  }

  #isComplete(isHeldBack: boolean): boolean {
    return this.#isEnded && (this.#isReleased || !isHeldBack);
  }

  async *#read(
    { start, end = Infinity }: { readonly start: number; readonly end?: number },
    isHeldBack: boolean,
    signal: AbortSignal,
  ): AsyncGenerator<Buffer> {
    using _ = this.#wakeOn(signal);
    let position = start;
    while (position < end) {
      signal.throwIfAborted();
      if (this.#failure !== undefined) throw this.#failure.error;
      const available = Math.min(this.#readableBytes(isHeldBack), end) - position;
      if (available <= 0) {
        if (this.#isComplete(isHeldBack)) return;
        await this.#changed.promise;
        continue;
      }
      const chunk = this.#recall(position, available) ?? (await this.#fetch(position, available));
      position += chunk.length;
      yield chunk;
    }
  }

  /** What is in memory of the bytes from a position on. */
  #recall(position: number, most: number): Buffer | undefined {
    if (position < this.#recentStart) return undefined;
    let start = this.#recentStart;
    for (const chunk of this.#recent) {
      const end = start + chunk.length;
      if (position < end) return chunk.subarray(position - start, position - start + most);
      start = end;
    }
    return undefined;
  }

  async #fetch(position: number, most: number): Promise<Buffer> {
    const handle = await this.#open();
    const buffer = Buffer.allocUnsafe(Math.min(most, READ_BYTES, this.#recentStart - position));
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, position);
    if (bytesRead === 0) throw new Error("The spool is shorter than what was written to it");
    return buffer.subarray(0, bytesRead);
  }
}
