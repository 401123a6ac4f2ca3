/** A bounded memory of values that are good for one version of what they were made from. */
export interface ByteCache<Value> {
  /** The value, when it was put for this very version. */
  get(key: string, version: number): Value | undefined;
  /** Keeps a value of a size in bytes, in place of the one under that key; others may have to go for it. */
  put(key: string, version: number, value: Value, sizeBytes: number): void;
  readonly sizeBytes: number;
}

interface Entry<Value> {
  readonly version: number;
  readonly value: Value;
  readonly sizeBytes: number;
  /** Since the eviction passed by; spares a used entry once without moving it at every use. */
  isUsed: boolean;
}

/** What a key and an entry take beside the value. */
const OVERHEAD_BYTES = 200;

/** Creates a cache that never counts more than `maxBytes`, its own overhead included. */
export function createByteCache<Value>(maxBytes: number): ByteCache<Value> {
  const entries = new Map<string, Entry<Value>>();
  let totalBytes = 0;

  const remove = (key: string, entry: Entry<Value>): void => {
    entries.delete(key);
    totalBytes -= entry.sizeBytes;
  };
  const makeRoom = (): void => {
    for (const [key, entry] of entries) {
      if (totalBytes <= maxBytes) return;
      entries.delete(key);
      if (entry.isUsed) {
        entry.isUsed = false;
        entries.set(key, entry);
      } else {
        totalBytes -= entry.sizeBytes;
      }
    }
  };

  return {
    get(key, version) {
      const entry = entries.get(key);
      if (entry === undefined) return undefined;
      if (entry.version !== version) return undefined;
      entry.isUsed = true;
      return entry.value;
    },
    put(key, version, value, valueBytes) {
      const previous = entries.get(key);
      if (previous !== undefined) remove(key, previous);
      const sizeBytes = valueBytes + key.length + OVERHEAD_BYTES;
      if (sizeBytes > maxBytes) return;
      entries.set(key, { version, value, sizeBytes, isUsed: false });
      totalBytes += sizeBytes;
      makeRoom();
    },
    get sizeBytes() {
      return totalBytes;
    },
  };
}
