import { Worker } from "node:worker_threads";

import { abortable, CacheError, cancelledError } from "@glorious/core";

/** What the thread says. It waits for an answer to `input` and `output`. */
export type XzThreadMessage =
  /** Wants the next piece of the stream. */
  | { readonly kind: "input" }
  /** Has decoded this much, and goes on when that is taken. */
  | { readonly kind: "output"; readonly bytes: Uint8Array<ArrayBuffer> }
  /** The stream is at its end, and so was the input; ready for another. */
  | { readonly kind: "end" }
  | { readonly kind: "failed"; readonly reason: string };

/** What the thread is told: a piece, the end of the pieces, or to go on. */
export type XzThreadAnswer =
  | { readonly kind: "piece"; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: "no more" }
  | { readonly kind: "go on" };

/** Threads that are kept for the next stream; starting one takes longer than decoding a small NAR. */
const MAX_IDLE_THREADS = 2;
const IDLE_MS = 30_000;
const idleThreads: XzThread[] = [];

/**
 * Decodes an xz stream on a thread of its own, so that neither a large NAR nor a bomb holds up the server, and
 * no stream waits for another.
 *
 * Memory is the stream's dictionary, at most 64 MiB, and a few pieces.
 *
 * @throws {CacheError} `CORRUPT` or `TRUNCATED` for damage and for bytes behind the end, `UNSUPPORTED` for filters,
 *   checks and dictionaries that the decoder does not have. Errors of the source come through as they are.
 */
export async function* decodeXz(
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer, void, undefined> {
  const thread = idleThreads.pop() ?? new XzThread();
  const pieces = abortable(source, WHAT, signal)[Symbol.asyncIterator]();
  let isReusable = false;
  // Between two pieces the thread may have a gigabyte to write.
  const onAbort = (): void => {
    if (signal !== undefined) thread.stop(cancelledError(WHAT, signal));
  };
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    let answer: XzThreadAnswer = { kind: "go on" };
    for (;;) {
      const message = await thread.ask(answer);
      if (message.kind === "end") break;
      if (message.kind === "failed") throw fromReason(message.reason);
      if (message.kind === "output") {
        yield Buffer.from(message.bytes.buffer);
        answer = { kind: "go on" };
      } else {
        const next = await pieces.next();
        answer =
          next.done === true
            ? { kind: "no more" }
            : // A copy of its own: sending a part of a larger buffer would send all of that.
              { kind: "piece", bytes: new Uint8Array(next.value) };
      }
    }
    isReusable = true;
  } finally {
    signal?.removeEventListener("abort", onAbort);
    if (isReusable) thread.keep();
    else thread.stop();
    await pieces.return?.();
  }
}

const WHAT = "Decoding xz data";

class XzThread {
  readonly #worker: Worker = startWorker();
  #waiting: PromiseWithResolvers<XzThreadMessage> | undefined;
  #failure: Error | undefined;
  #idleTimer: NodeJS.Timeout | undefined;

  constructor() {
    this.#worker.on("message", (message: XzThreadMessage) => this.#waiting?.resolve(message));
    this.#worker.on("error", (error) =>
      this.#die(error instanceof Error ? error : new Error(String(error))),
    );
    this.#worker.on("exit", () => this.#die(new Error("The xz decoder's thread has ended")));
  }

  /** Answers what the thread said last, or starts a stream, and resolves with what it says next. */
  ask(answer: XzThreadAnswer): Promise<XzThreadMessage> {
    clearTimeout(this.#idleTimer);
    this.#worker.ref();
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    this.#waiting = Promise.withResolvers();
    this.#worker.postMessage(answer, answer.kind === "piece" ? [answer.bytes.buffer] : []);
    return this.#waiting.promise;
  }

  keep(): void {
    if (idleThreads.length >= MAX_IDLE_THREADS || this.#failure !== undefined) {
      this.stop();
      return;
    }
    idleThreads.push(this);
    // An idle thread is no reason for the process to go on.
    this.#worker.unref();
    this.#idleTimer = setTimeout(() => this.stop(), IDLE_MS);
    this.#idleTimer.unref();
  }

  /** Ends the thread; who waits for it gets the error. */
  stop(error: Error = new Error("The xz decoder's thread was stopped")): void {
    this.#die(error);
    void this.#worker.terminate();
  }

  #die(error: Error): void {
    this.#failure ??= error;
    this.#waiting?.reject(this.#failure);
    const position = idleThreads.indexOf(this);
    if (position >= 0) idleThreads.splice(position, 1);
  }
}

/** Reasons as the decoder words them: xz-embedded's error numbers. */
function fromReason(reason: string): CacheError {
  const code = /error code (\d+)$/.exec(reason)?.[1];
  // A check, filter or dictionary that it does not have.
  if (code === "2" || code === "3" || code === "4" || code === "6") {
    return new CacheError(
      "UNSUPPORTED",
      "The xz stream needs a filter, check or dictionary not taken here",
      {
        cause: new Error(reason),
        hint: "Copy with ?compression=zstd at the end of the cache's URL.",
      },
    );
  }
  // Input that ends too early; no input at all makes the wrapper stumble.
  const isCut = code === "8" || reason.includes("reading 'byteLength'");
  return new CacheError(
    isCut ? "TRUNCATED" : "CORRUPT",
    `The xz stream is ${isCut ? "cut short" : "damaged"}`,
    {
      cause: new Error(reason),
      hint: "Send it again; the bytes that arrived do not decompress.",
    },
  );
}

function startWorker(): Worker {
  // The workspace runs its sources, where packages resolve by a condition that a thread does not inherit
  // from every parent (a test runner has its own loader); a published package is built.
  return import.meta.url.endsWith(".ts")
    ? new Worker(new URL("./xz-decoder-thread.ts", import.meta.url), {
        execArgv: ["--conditions=source"],
      })
    : new Worker(new URL("./xz-decoder-thread.js", import.meta.url));
}
