import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";

import { CacheError, type CacheErrorCode } from "@glorious/core";

import type { ObjectCompression } from "../index/cache-index.ts";
import type { NarFacts } from "./measure-nar.ts";

/** What a thread is told of a file: that it begins, a piece of it, its end, or that nobody wants to know any more. */
export type VerifierMessage =
  | {
      readonly kind: "begin";
      readonly id: number;
      readonly compression: ObjectCompression;
      readonly expected: NarFacts;
      readonly maxNarSizeBytes: number;
      readonly maxWindowLog: number;
    }
  | { readonly kind: "piece"; readonly id: number; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: "end"; readonly id: number }
  | { readonly kind: "drop"; readonly id: number };

/** What a thread says of a file: that it has done with a piece, and what it is in the end. */
export type VerifierAnswer =
  | { readonly kind: "taken"; readonly id: number }
  | { readonly kind: "right"; readonly id: number; readonly fileHash: string }
  | {
      readonly kind: "failed";
      readonly id: number;
      readonly code: CacheErrorCode | undefined;
      readonly message: string;
    };

/** A file to verify away from the thread that serves. */
export interface FileToVerify {
  readonly source: AsyncIterable<Buffer>;
  readonly compression: ObjectCompression;
  readonly expected: NarFacts;
  readonly maxNarSizeBytes: number;
  readonly maxWindowLog: number;
}

/** A message costs as much as hashing some of this. */
const PIECE_BYTES = 256 * 1024;
/** Of one file, before the thread has done with the first of them. */
const MAX_PIECES = 6;
const IDLE_MS = 30_000;
/** Pieces come and go, outside of the heap. */
const LIMITS = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 6 };

const threads: VerifierThread[] = [];
const MAX_THREADS = Math.max(1, Math.min(4, availableParallelism() - 1));
let lastId = 0;

/**
 * Decodes a file and holds its NAR against what is expected, on a thread of its own with others: two hashes and the
 * decoder's pieces are more than half of what a NAR costs that passes through the server.
 *
 * @returns The file's SHA-256, hexadecimal.
 * @throws {CacheError} `CORRUPT`, `TRUNCATED`, `TOO_LARGE` or `UNSUPPORTED`; errors of the source as they are.
 */
export async function verifyOnThread(file: FileToVerify): Promise<string> {
  const { source, ...facts } = file;
  const thread = leastBusy();
  const id = (lastId += 1);
  const verdict = thread.begin({ kind: "begin", id, ...facts });
  try {
    for await (const piece of inPieces(source)) {
      if (!(await verdict.take(piece))) break;
    }
    verdict.end();
    return await verdict.outcome;
  } finally {
    verdict[Symbol.dispose]();
  }
}

/** In memory that can be given away. */
async function* inPieces(source: AsyncIterable<Buffer>): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  let piece = new Uint8Array(PIECE_BYTES);
  let filled = 0;
  for await (const chunk of source) {
    for (let at = 0; at < chunk.length;) {
      const part = chunk.subarray(at, at + PIECE_BYTES - filled);
      piece.set(part, filled);
      filled += part.length;
      at += part.length;
      if (filled < PIECE_BYTES) continue;
      yield piece;
      piece = new Uint8Array(PIECE_BYTES);
      filled = 0;
    }
  }
  if (filled > 0) yield piece.slice(0, filled);
}

function leastBusy(): VerifierThread {
  const [first, ...others] = threads.toSorted((a, b) => a.load - b.load);
  const isEnough = first !== undefined && (first.load === 0 || others.length + 1 >= MAX_THREADS);
  if (isEnough) return first;
  const thread = new VerifierThread();
  threads.push(thread);
  return thread;
}

/** A file on a thread. */
interface Verdict extends Disposable {
  /** Hands a piece over once there is room for it; `false` when no more are wanted. */
  take(piece: Uint8Array<ArrayBuffer>): Promise<boolean>;
  end(): void;
  readonly outcome: Promise<string>;
}

interface Running {
  pieces: number;
  isOver: boolean;
  wake: () => void;
  readonly outcome: PromiseWithResolvers<string>;
}

class VerifierThread {
  readonly #worker: Worker = startWorker();
  readonly #files = new Map<number, Running>();
  #idleTimer: NodeJS.Timeout | undefined;

  constructor() {
    this.#worker.on("message", (answer: VerifierAnswer) => this.#hear(answer));
    this.#worker.on("error", (error) => this.#die(error));
    this.#worker.on("exit", () => this.#die(new Error("The thread that verifies NARs has ended")));
  }

  get load(): number {
    return this.#files.size;
  }

  begin(message: VerifierMessage): Verdict {
    clearTimeout(this.#idleTimer);
    this.#worker.ref();
    const { id } = message;
    const file: Running = {
      pieces: 0,
      isOver: false,
      wake: () => {},
      outcome: Promise.withResolvers(),
    };
    // Also thrown to who hands pieces over.
    file.outcome.promise.catch(() => {});
    this.#files.set(id, file);
    this.#tell(message);
    return {
      take: async (bytes) => {
        while (!file.isOver && file.pieces >= MAX_PIECES) {
          await new Promise<void>((resolve) => (file.wake = resolve));
        }
        if (file.isOver) return false;
        file.pieces += 1;
        this.#tell({ kind: "piece", id, bytes }, [bytes.buffer]);
        return true;
      },
      end: () => this.#tell({ kind: "end", id }),
      outcome: file.outcome.promise,
      [Symbol.dispose]: () => {
        if (!file.isOver) this.#tell({ kind: "drop", id });
        this.#files.delete(id);
        if (this.#files.size === 0) this.#rest();
      },
    };
  }

  #tell(message: VerifierMessage, transfer: readonly ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, transfer);
  }

  #hear(answer: VerifierAnswer): void {
    const file = this.#files.get(answer.id);
    if (file === undefined) return;
    if (answer.kind === "taken") file.pieces -= 1;
    else file.isOver = true;
    if (answer.kind === "right") file.outcome.resolve(answer.fileHash);
    if (answer.kind === "failed") {
      const { code = "INTERNAL", message } = answer;
      file.outcome.reject(new CacheError(code, message));
    }
    file.wake();
  }

  /** An idle thread is no reason for the process to go on, and goes itself after a while. */
  #rest(): void {
    this.#worker.unref();
    this.#idleTimer = setTimeout(() => {
      this.#die(new Error("The thread that verifies NARs was not needed"));
      void this.#worker.terminate();
    }, IDLE_MS);
    this.#idleTimer.unref();
  }

  #die(error: unknown): void {
    const position = threads.indexOf(this);
    if (position >= 0) threads.splice(position, 1);
    for (const file of this.#files.values()) {
      file.isOver = true;
      file.outcome.reject(error);
      file.wake();
    }
  }
}

function startWorker(): Worker {
  // As the xz decoder's thread.
  return import.meta.url.endsWith(".ts")
    ? new Worker(new URL("./nar-verifier-thread.ts", import.meta.url), {
        execArgv: ["--conditions=source"],
        resourceLimits: LIMITS,
      })
    : new Worker(new URL("./nar-verifier-thread.js", import.meta.url), { resourceLimits: LIMITS });
}
