import { promisify } from "node:util";
import { zstdCompress, zstdDecompress } from "node:zlib";

import { CacheError } from "@glorious/core";
import { createNarLister, decodeZstd, formatNarListing } from "@glorious/nix-store";

import type { PathRecord } from "../index/cache-index.ts";
import { objectKey } from "../ingest/nar-ingest.ts";
import type { RouteServices } from "./route-services.ts";

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** The `.ls` files of paths. */
export interface Listings {
  /**
   * A listing, made from the NAR itself the first time it is asked for and kept under the NAR's hash. So it is
   * always there and always true, whatever the uploader sent, also when a path is deleted and built anew.
   *
   * @throws {CacheError} `NOT_FOUND` when the stored bytes are no NAR, or one that cannot be listed.
   */
  get(path: PathRecord, signal: AbortSignal): Promise<Uint8Array>;
}

export function createListings({ index, store, now }: RouteServices): Listings {
  /** One reading of a NAR serves everybody who asks for its listing meanwhile. */
  const underWay = new Map<string, Promise<Buffer>>();

  const make = async (path: PathRecord): Promise<Buffer> => {
    const blob = await store.get(objectKey(path.fileHash));
    if (blob === undefined) {
      throw new CacheError("NOT_FOUND", `The NAR of ${path.storePath} is gone`, {
        hint: "Push the path again: that stores it anew.",
      });
    }
    await using open = blob;
    const lister = createNarLister();
    try {
      for await (const chunk of decodeZstd(open.stream())) {
        lister.write(chunk);
      }
      return Buffer.from(formatNarListing(lister.end()));
    } catch (cause) {
      if (!(cause instanceof CacheError)) throw cause;
      // No NAR at all, names that JSON cannot hold, or more entries than a listing may have.
      throw new CacheError("NOT_FOUND", `${path.storePath} has no listing: ${cause.message}`, {
        cause,
      });
    }
  };

  const makeAndKeep = async (path: PathRecord): Promise<Buffer> => {
    const text = await make(path);
    await index.putDocument(path.viewId, {
      kind: "listing",
      name: path.narHash,
      body: await compress(text),
      createdAtMs: now(),
    });
    return text;
  };

  return {
    async get(path, signal) {
      const kept = await index.findDocument([path.viewId], "listing", path.narHash);
      if (kept !== undefined) return decompress(kept);
      const key = `${path.viewId} ${path.narHash}`;
      let making = underWay.get(key);
      if (making === undefined) {
        making = makeAndKeep(path).finally(() => underWay.delete(key));
        underWay.set(key, making);
      }
      const listing = await making;
      signal.throwIfAborted();
      return listing;
    },
  };
}
