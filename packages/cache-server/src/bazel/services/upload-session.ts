import { CacheError } from "@glorious/core";
import { formatHash } from "@glorious/reapi";

import type { BazelScope, BlobForm, BlobName } from "../store/bazel-store.ts";
import { UploadBlocks } from "./upload-blocks.ts";

/** A blob that comes in pieces, over one connection after the other if need be. */
export interface UploadSession {
  /** Bytes taken so far, as encoded. */
  readonly receivedBytes: number;
  /** Settles when the blob is stored, or will never be. */
  readonly outcome: Promise<"stored" | "present">;
  /** Takes a copy of the next piece. @param onTaken Called when there is room for more. */
  write(bytes: Uint8Array, onTaken: () => void): void;
  /** There is no more. */
  end(): void;
  /** The client is gone: it may come back for a while. */
  detach(): void;
  /** Gives the upload up. */
  abort(reason: CacheError): void;
}

/** Uploads under way, so that a client whose connection broke can go on where it was. */
export interface UploadSessions {
  /** The upload that has the name and may be gone on with. */
  find(name: string): UploadSession | undefined;
  /** Begins an upload; one of the same name is given up. */
  begin(
    name: string,
    scope: BazelScope,
    upload: BlobName & { readonly form: BlobForm },
  ): UploadSession;
}

/** Uploads under way, for who owns them. */
export interface OwnedUploadSessions extends UploadSessions {
  /** Gives up all that run. */
  abortAll(): void;
}

export interface UploadSessionsOptions {
  /** How long a client that is gone may take to come back. */
  readonly resumeMs: number;
  /** Uploads without a client; beyond that the oldest is given up. */
  readonly maxDetached: number;
}

export function createUploadSessions(options: UploadSessionsOptions): OwnedUploadSessions {
  const sessions = new Map<string, Session>();
  const detached = new Set<Session>();

  const begin: UploadSessions["begin"] = (name, scope, upload) => {
    sessions.get(name)?.abort(new CacheError("CANCELLED", "The upload was begun anew"));
    const session = new Session(scope, upload, {
      onAttached: () => detached.delete(session),
      onDetached: () => {
        detached.add(session);
        const [oldest] = detached;
        if (detached.size > options.maxDetached) oldest?.abort(GONE);
      },
      resumeMs: options.resumeMs,
    });
    sessions.set(name, session);
    const forget = (): void => {
      detached.delete(session);
      if (sessions.get(name) === session) sessions.delete(name);
    };
    session.outcome.then(forget, forget);
    return session;
  };

  return {
    find: (name) => sessions.get(name),
    begin,
    abortAll() {
      for (const session of sessions.values()) session.abort(STOPPING);
    },
  };
}

const STOPPING = new CacheError("UNAVAILABLE", "The server is stopping");
const GONE = new CacheError("CANCELLED", "The client of an upload did not come back");

interface SessionEvents {
  readonly onAttached: () => void;
  readonly onDetached: () => void;
  readonly resumeMs: number;
}

class Session implements UploadSession {
  receivedBytes = 0;
  readonly outcome: Promise<"stored" | "present">;
  readonly #events: SessionEvents;
  readonly #blocks: UploadBlocks;
  readonly #queue: { readonly bytes: Buffer; readonly onTaken: () => void }[] = [];
  readonly #abort: AbortController = new AbortController();
  #wake: (() => void) | undefined;
  #isEnded = false;
  #isSettled = false;
  #failure: CacheError | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(
    scope: BazelScope,
    upload: BlobName & { readonly form: BlobForm },
    events: SessionEvents,
  ) {
    this.#events = events;
    const { signal } = this.#abort;
    const blocks = (this.#blocks = new UploadBlocks(upload.sizeBytes));
    const giveBack = (chunk: Uint8Array): void => blocks.giveBack(chunk);
    this.outcome = scope.putBlob({ ...upload, source: this.#chunks(), signal, giveBack });
    this.outcome
      .catch((error: unknown) => {
        this.#failure ??=
          error instanceof CacheError
            ? error
            : new CacheError("INTERNAL", `Storing ${formatHash(upload.key)} failed`, {
                cause: error,
              });
      })
      .finally(() => {
        this.#isSettled = true;
        clearTimeout(this.#timer);
        // Nobody reads them any more, and their sender waits.
        for (const { onTaken } of this.#queue.splice(0)) onTaken();
      });
  }

  write(bytes: Uint8Array, onTaken: () => void): void {
    this.#attach();
    this.receivedBytes += bytes.length;
    if (this.#isSettled) {
      onTaken();
      return;
    }
    const pieces = this.#blocks.copy(bytes);
    for (const [at, piece] of pieces.entries()) {
      this.#queue.push({ bytes: piece, onTaken: at === pieces.length - 1 ? onTaken : () => {} });
    }
    this.#wake?.();
  }

  end(): void {
    this.#attach();
    this.#isEnded = true;
    this.#blocks.end();
    this.#wake?.();
  }

  detach(): void {
    if (this.#isEnded || this.#isSettled || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => this.abort(GONE), this.#events.resumeMs);
    this.#timer.unref();
    this.#events.onDetached();
  }

  abort(reason: CacheError): void {
    this.#failure ??= reason;
    this.#abort.abort(reason);
    this.#wake?.();
  }

  #attach(): void {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#events.onAttached();
  }

  async *#chunks(): AsyncGenerator<Buffer> {
    for (;;) {
      const next = this.#queue.shift();
      if (next !== undefined) {
        yield next.bytes;
        next.onTaken();
      } else if (this.#failure !== undefined) {
        throw this.#failure;
      } else if (this.#isEnded) {
        return;
      } else {
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    }
  }
}
