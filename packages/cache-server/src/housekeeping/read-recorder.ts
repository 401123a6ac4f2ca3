import type { Logger } from "@glorious/core";
import type { TokenClaims } from "@glorious/trust";

import type { CacheIndex } from "../index/cache-index.ts";
import type { EntryUse, PrincipalFacts } from "../index/provenance-index.ts";
import { toPrincipalFacts } from "../trust/principal-facts.ts";

/**
 * Remembers who read what, and tells the index now and then: each token's reads of an entry once. It keeps nobody
 * waiting, so a crash loses the reads of the last interval.
 */
export interface ReadRecorder {
  /** A token's holder was given an entry; nobody in particular leaves no trace. */
  note(claims: TokenClaims | undefined, viewId: number, kind: EntryUse["kind"], name: string): void;
  /** Writes all that was noted before. */
  flush(): Promise<void>;
  start(): void;
  /** Writes what is left. */
  stop(): Promise<void>;
}

export interface ReadRecorderOptions {
  readonly index: Pick<CacheIndex, "recordReads">;
  readonly logger: Logger;
  readonly now: () => number;
  readonly flushIntervalMs: number;
  readonly isEnabled: boolean;
}

/** Beyond it what is read is not recorded until the next write, which the log then says. */
const MAX_PENDING = 50_000;
/** What is remembered of one token as recorded; beyond it some is recorded again. */
const MAX_KNOWN_PER_TOKEN = 20_000;

interface Reader {
  readonly facts: PrincipalFacts;
  readonly known: Set<string>;
  pending: EntryUse[];
}

export function createReadRecorder(options: ReadRecorderOptions): ReadRecorder {
  const { index, logger, now, flushIntervalMs, isEnabled } = options;
  // The same claims come with every request of a token.
  const readers = new WeakMap<TokenClaims, Reader>();
  let waiting = new Set<Reader>();
  let pendingCount = 0;
  let dropped = 0;
  let tail = Promise.resolve();
  let timer: NodeJS.Timeout | undefined;

  const write = async (): Promise<void> => {
    const batch = [...waiting].map(({ facts, pending }) => ({ facts, pending }));
    for (const reader of waiting) reader.pending = [];
    waiting = new Set();
    pendingCount = 0;
    if (dropped > 0) logger.warn("reads were not recorded: there were too many", { dropped });
    dropped = 0;
    try {
      await Promise.all(batch.map(({ facts, pending }) => index.recordReads(facts, pending)));
    } catch (error) {
      logger.warn("reads could not be recorded", { error });
    }
  };
  const flush = (): Promise<void> => {
    tail = tail.then(write);
    return tail;
  };

  return {
    note(claims, viewId, kind, name) {
      if (!isEnabled || claims === undefined) return;
      let reader = readers.get(claims);
      if (reader === undefined) {
        reader = { facts: toPrincipalFacts(claims), known: new Set(), pending: [] };
        readers.set(claims, reader);
      }
      const key = `${viewId}/${kind}/${name}`;
      if (reader.known.has(key)) return;
      if (pendingCount >= MAX_PENDING) {
        dropped += 1;
        return;
      }
      if (reader.known.size >= MAX_KNOWN_PER_TOKEN) reader.known.clear();
      reader.known.add(key);
      reader.pending.push({ viewId, kind, name, atMs: now() });
      waiting.add(reader);
      pendingCount += 1;
    },
    flush,
    start() {
      timer = setInterval(() => void flush(), flushIntervalMs);
      timer.unref();
    },
    async stop() {
      clearInterval(timer);
      await flush();
    },
  };
}
