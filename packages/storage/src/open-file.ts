import { close, closeSync, fstatSync, open, read } from "node:fs";

/**
 * A file open for reading. Bare descriptors and callbacks: a `FileHandle` costs twice as much, which shows with
 * thousands of small blobs a second.
 */
export interface OpenFile {
  readonly sizeBytes: number;
  /** Reads at most `into.length` bytes; 0 at the end of the file. */
  read(into: Buffer, position: number): Promise<number>;
  /** Closes it, once, after the reads under way. */
  close(): void;
}

/** @throws a system error. */
export function openFile(path: string): Promise<OpenFile> {
  return new Promise((resolve, reject) => {
    open(path, "r", (error, descriptor) => {
      if (error !== null) {
        reject(error);
        return;
      }
      try {
        // Not another trip to the thread pool: what an open file's facts are is in memory.
        const { size } = fstatSync(descriptor);
        resolve(new DescriptorFile(descriptor, size));
      } catch (cause) {
        closeQuietly(descriptor);
        reject(cause);
      }
    });
  });
}

class DescriptorFile implements OpenFile {
  readonly sizeBytes: number;
  readonly #descriptor: number;
  #reads = 0;
  #isClosing = false;

  constructor(descriptor: number, sizeBytes: number) {
    this.#descriptor = descriptor;
    this.sizeBytes = sizeBytes;
  }

  read(into: Buffer, position: number): Promise<number> {
    if (this.#isClosing) throw new Error("The file was closed");
    this.#reads += 1;
    return new Promise((resolve, reject) => {
      read(this.#descriptor, into, 0, into.length, position, (error, bytesRead) => {
        this.#reads -= 1;
        if (this.#isClosing) this.#closeWhenIdle();
        if (error === null) resolve(bytesRead);
        else reject(error);
      });
    });
  }

  close(): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    this.#closeWhenIdle();
  }

  /** A descriptor closed under a read could be another file's before the read runs. */
  #closeWhenIdle(): void {
    if (this.#reads === 0) closeQuietly(this.#descriptor);
  }
}

/**
 * Closing a file that was only read loses nothing, and nobody waits for it. It is done at once, as it takes less than
 * the way to the thread pool; only the last one who has a deleted file open has its blocks to give back.
 */
function closeQuietly(descriptor: number): void {
  try {
    if (fstatSync(descriptor).nlink === 0) close(descriptor, () => {});
    else closeSync(descriptor);
  } catch {
    // Nothing was written that could be lost.
  }
}
