import type { Logger } from "@glorious/core";
import { isStorePathHash } from "@glorious/nix-store";
import * as v from "valibot";

import { type KnownPath, type KnownPaths, readKnownPath } from "./known-paths.ts";
import type { Miss, Upstream } from "./upstream.ts";

/** Where narinfos come from: memory, or the upstream, which is asked for whole closures where it can be. */
export interface NarInfoSource {
  /** Never rejects, and never takes longer than the upstream's deadline by much. */
  find(storePathHash: string): Promise<KnownPath | Miss>;
}

/** Options of the sources. */
export interface NarInfoSourceOptions {
  readonly upstream: Upstream;
  readonly known: KnownPaths;
  /** Where `<hash>.narinfo` lies, with a final slash. */
  readonly cacheUrl: URL;
  readonly logger: Logger;
  readonly nowMs: () => number;
}

/** Asks for one narinfo after the other, as any binary cache has them. */
export function createPlainSource(
  options: NarInfoSourceOptions & {
    /** Asks for those of the references, too, before Nix does. */
    readonly walksAhead: boolean;
  },
): NarInfoSource {
  const { upstream, known, cacheUrl, nowMs, walksAhead } = options;
  const pending = new Map<string, Promise<KnownPath | Miss>>();
  const ahead: string[] = [];
  let walking = 0;

  const ask = async (storePathHash: string): Promise<KnownPath | Miss> => {
    const url = new URL(`${storePathHash}.narinfo`, cacheUrl);
    const text = await upstream.readText(url);
    if (typeof text !== "string") {
      if (text.miss === "absent") known.putAbsent(storePathHash);
      return text;
    }
    const path = readKnownPath(storePathHash, text, nowMs());
    if (path === undefined) return { miss: "error" };
    known.put(path);
    if (walksAhead) {
      ahead.push(...path.references);
      walk();
    }
    return path;
  };

  const find = (storePathHash: string): Promise<KnownPath | Miss> => {
    const memory = known.get(storePathHash);
    if (memory === "absent") return Promise.resolve({ miss: "absent" });
    if (memory !== undefined) return Promise.resolve(memory);
    let running = pending.get(storePathHash);
    if (running === undefined) {
      running = ask(storePathHash).finally(() => pending.delete(storePathHash));
      pending.set(storePathHash, running);
    }
    return running;
  };

  const walk = (): void => {
    while (walking < MAX_WALKING && upstream.isAsked) {
      const next = ahead.pop();
      if (next === undefined) return;
      if (known.get(next) !== undefined || pending.has(next)) continue;
      walking += 1;
      void find(next).finally(() => {
        walking -= 1;
        walk();
      });
    }
  };

  return { find };
}

/** Questions that nobody waits for, at a time. */
const MAX_WALKING = 64;

const ClosureAnswer = v.object({
  narinfos: v.array(v.object({ storePathHash: v.string(), text: v.string() })),
  missing: v.array(v.string()),
  rest: v.array(v.string()),
});

/** Pages that are asked for at a time; more roots wait and are asked together. */
const MAX_PAGES_AT_A_TIME = 4;
const PAGE_PATHS = 1000;
const MIN_PAGE_PATHS = 50;
const MAX_ROOTS = 1000;
/** What a request repeats of what is known, so that it does not come again. */
const MAX_KNOWN_SENT = 500;
/** A closure is followed for so many pages. */
const MAX_PAGES = 40;

interface Waiting {
  readonly promise: Promise<KnownPath | Miss>;
  readonly resolve: (found: KnownPath | Miss) => void;
}

/** Asks our server for the closure of what Nix asks for, page by page. */
export function createClosureSource(
  options: NarInfoSourceOptions & { readonly closureUrl: URL },
): NarInfoSource {
  const { upstream, known, closureUrl, logger, nowMs } = options;
  const plain = createPlainSource({ ...options, walksAhead: true });
  const waiting = new Map<string, Waiting>();
  let roots = new Set<string>();
  let running = 0;
  let isScheduled = false;
  let pagePaths = PAGE_PATHS;
  let hasRoute = true;

  const settle = (storePathHash: string, found: KnownPath | Miss): void => {
    const waiter = waiting.get(storePathHash);
    waiting.delete(storePathHash);
    waiter?.resolve(found);
  };

  const askPage = async (
    asked: readonly string[],
    sent: readonly string[],
  ): Promise<v.InferOutput<typeof ClosureAnswer> | Miss> => {
    // The NARs will be asked for as soon as this is here.
    void upstream.warmUp();
    const text = await upstream.readText(closureUrl, {
      method: "POST",
      headers: { "content-type": "application/json", "accept-encoding": "zstd" },
      body: JSON.stringify({ roots: asked, known: sent, limit: pagePaths }),
    });
    if (typeof text !== "string") {
      // A slow link, or a slow server: it may manage a smaller page.
      if (text.miss === "timeout") pagePaths = Math.max(MIN_PAGE_PATHS, pagePaths >> 2);
      return text;
    }
    const answer = v.safeParse(ClosureAnswer, parseJson(text));
    return answer.success ? answer.output : { miss: "error" };
  };

  /** Follows closures to their end. Whoever waits for something in it hears as soon as its page is here. */
  const follow = async (first: readonly string[]): Promise<void> => {
    const sent = [...known.latest(MAX_KNOWN_SENT)];
    let asked = first;
    for (let page = 0; asked.length > 0 && page < MAX_PAGES; page += 1) {
      const answer = await askPage(asked, sent);
      if ("miss" in answer) {
        if (answer.miss === "absent") {
          logger.info("the server answers no closures: narinfos are asked for one by one");
          hasRoute = false;
          for (const hash of asked) void plain.find(hash).then((found) => settle(hash, found));
        } else {
          for (const hash of asked) settle(hash, answer);
        }
        return;
      }
      const learnedAtMs = nowMs();
      for (const { storePathHash, text } of answer.narinfos) {
        sent.push(storePathHash);
        const path = readKnownPath(storePathHash, text, learnedAtMs);
        if (path !== undefined) known.put(path);
        settle(storePathHash, path ?? { miss: "error" });
      }
      for (const hash of answer.missing.filter(isStorePathHash)) {
        known.putAbsent(hash);
        settle(hash, { miss: "absent" });
      }
      const rest = new Set(answer.rest.filter(isStorePathHash));
      for (const hash of asked) if (!rest.has(hash)) settle(hash, { miss: "error" });
      asked = [...rest];
      // Nix may ask for these before they are here.
      for (const hash of asked) if (!waiting.has(hash)) waiting.set(hash, createWaiting());
    }
    for (const hash of asked) settle(hash, { miss: "error" });
  };

  const start = (): void => {
    isScheduled = false;
    while (running < MAX_PAGES_AT_A_TIME && roots.size > 0) {
      const all = [...roots];
      roots = new Set(all.slice(MAX_ROOTS));
      running += 1;
      void follow(all.slice(0, MAX_ROOTS)).finally(() => {
        running -= 1;
        start();
      });
    }
  };

  return {
    find(storePathHash) {
      const memory = known.get(storePathHash);
      if (memory === "absent") return Promise.resolve({ miss: "absent" });
      if (memory !== undefined) return Promise.resolve(memory);
      if (!hasRoute) return plain.find(storePathHash);
      let waiter = waiting.get(storePathHash);
      if (waiter === undefined) {
        waiter = createWaiting();
        waiting.set(storePathHash, waiter);
        roots.add(storePathHash);
        // What Nix asks in one go is one question.
        if (!isScheduled) setImmediate(start);
        isScheduled = true;
      }
      return waiter.promise;
    },
  };
}

function createWaiting(): Waiting {
  const { promise, resolve } = Promise.withResolvers<KnownPath | Miss>();
  return { promise, resolve };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
