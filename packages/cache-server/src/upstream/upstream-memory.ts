import type { UpstreamNarInfo } from "./upstream-narinfo.ts";

/** What upstreams said, as long as it may be believed. */
export interface UpstreamMemory {
  /** `undefined`: nothing is known. */
  get(hiddenViewId: number, storePathHash: string): UpstreamNarInfo | "absent" | undefined;
  put(hiddenViewId: number, storePathHash: string, answer: UpstreamNarInfo | "absent"): void;
  /** Forgets what an upstream did not have. */
  forgetAbsent(hiddenViewId: number): void;
  /** The path whose NAR that file is. */
  findFile(hiddenViewIds: readonly number[], fileHash: string): KnownFile | undefined;
}

/** A file that an upstream has, by its narinfo. */
export interface KnownFile {
  readonly hiddenViewId: number;
  readonly narInfo: UpstreamNarInfo;
}

export interface UpstreamMemoryOptions {
  readonly positiveTtlMs: number;
  readonly negativeTtlMs: number;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** A few MiB. */
const MAX_ABSENT = 50_000;
/** A KiB or two each. */
const MAX_PRESENT = 10_000;

interface Entry<Value> {
  readonly value: Value;
  readonly untilMs: number;
}

export function createUpstreamMemory(options: UpstreamMemoryOptions): UpstreamMemory {
  const { positiveTtlMs, negativeTtlMs, now } = options;
  const absent = new Map<string, Entry<true>>();
  const present = new Map<string, Entry<UpstreamNarInfo>>();
  /** From a file to the key in `present`. */
  const files = new Map<string, string>();

  const keep = <Value>(map: Map<string, Value>, key: string, value: Value, most: number): void => {
    map.delete(key);
    map.set(key, value);
    if (map.size <= most) return;
    const oldest = map.keys().next();
    if (oldest.done !== true) map.delete(oldest.value);
  };
  const live = <Value>(map: Map<string, Entry<Value>>, key: string): Value | undefined => {
    const entry = map.get(key);
    if (entry === undefined) return undefined;
    if (entry.untilMs > now()) return entry.value;
    map.delete(key);
    return undefined;
  };

  return {
    get(hiddenViewId, storePathHash) {
      const key = `${hiddenViewId} ${storePathHash}`;
      return live(present, key) ?? (live(absent, key) === true ? "absent" : undefined);
    },
    put(hiddenViewId, storePathHash, answer) {
      const key = `${hiddenViewId} ${storePathHash}`;
      if (answer === "absent") {
        present.delete(key);
        keep(absent, key, { value: true, untilMs: now() + negativeTtlMs }, MAX_ABSENT);
        return;
      }
      absent.delete(key);
      keep(present, key, { value: answer, untilMs: now() + positiveTtlMs }, MAX_PRESENT);
      const { fileHash } = answer;
      if (fileHash !== undefined) keep(files, `${hiddenViewId} ${fileHash}`, key, MAX_PRESENT);
    },
    forgetAbsent(hiddenViewId) {
      const prefix = `${hiddenViewId} `;
      for (const key of absent.keys()) if (key.startsWith(prefix)) absent.delete(key);
    },
    findFile(hiddenViewIds, fileHash) {
      for (const hiddenViewId of hiddenViewIds) {
        const key = files.get(`${hiddenViewId} ${fileHash}`);
        const narInfo = key === undefined ? undefined : live(present, key);
        if (narInfo?.fileHash === fileHash) return { hiddenViewId, narInfo };
      }
      return undefined;
    },
  };
}
