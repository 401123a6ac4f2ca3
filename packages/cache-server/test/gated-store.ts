import type { BlobStore, PutOptions } from "@glorious/storage";

/** A store that stores, and says so when a test lets it. */
export interface StoreGate {
  /** For `startTestServer`. */
  readonly wrap: (store: BlobStore) => BlobStore;
  /** How many blobs were begun. */
  readonly puts: number;
  /** Resolves when a blob is stored for the first time, before anybody is told. */
  readonly stored: Promise<void>;
  open(): void;
}

export function createStoreGate({ isOpen = false }: { readonly isOpen?: boolean } = {}): StoreGate {
  const released = Promise.withResolvers<void>();
  const stored = Promise.withResolvers<void>();
  if (isOpen) released.resolve();
  let puts = 0;
  return {
    wrap: (store) => ({
      put: (async (source: AsyncIterable<Uint8Array>, options: PutOptions) => {
        puts += 1;
        const result = await store.put(source, options);
        stored.resolve();
        await released.promise;
        return result;
      }) as BlobStore["put"],
      async adopt(file, options) {
        puts += 1;
        await store.adopt(file, options);
        stored.resolve();
        await released.promise;
      },
      get: (key, options) => store.get(key, options),
      stat: (key) => store.stat(key),
      delete: (key) => store.delete(key),
      list: (prefix) => store.list(prefix),
      cleanUp: (options) => store.cleanUp(options),
      ping: () => store.ping(),
      [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
    }),
    get puts() {
      return puts;
    },
    stored: stored.promise,
    open: () => released.resolve(),
  };
}
