import { createHash, type Hash } from "node:crypto";
import { promisify } from "node:util";
import { zstdCompress, zstdDecompress } from "node:zlib";

import { CacheError, isCacheError } from "@glorious/core";
import { createNarLister, formatNarListing } from "@glorious/nix-store";

import type { PathRecord } from "../index/cache-index.ts";
import { decodeNar } from "../ingest/nar-decoder.ts";
import { objectKey } from "../ingest/object-key.ts";
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

export function createListings({ index, store, quarantine, now }: RouteServices): Listings {
  /** One reading of a NAR serves everybody who asks for its listing meanwhile. */
  const underWay = new Map<string, Promise<Buffer>>();

  const make = async (path: PathRecord): Promise<Buffer> => {
    const hash = createHash("sha256");
    const lister = createNarLister();
    try {
      const blob = await store.get(objectKey(path.fileHash));
      if (blob === undefined) throw new CacheError("NOT_FOUND", "its NAR is gone");
      await using open = blob;
      // What came from an upstream may be in any encoding.
      const object = await index.findObject([path.viewId], path.fileHash);
      const nar = decodeNar(hashed(open.stream(), hash), object?.compression ?? "zstd");
      for await (const chunk of nar) lister.write(chunk);
      const listing = Buffer.from(formatNarListing(lister.end()));
      if (hash.digest("hex") === path.fileHash) return listing;
      throw new CacheError("CORRUPT", "its NAR is damaged");
    } catch (cause) {
      if (!isCacheError(cause)) throw cause;
      // Damage is for the quarantine. The others are no NAR at all, names that JSON cannot hold, or more entries than
      // a listing may have.
      await quarantine.examine(path, "bytes");
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

async function* hashed(source: AsyncIterable<Buffer>, hash: Hash): AsyncGenerator<Buffer> {
  for await (const chunk of source) {
    hash.update(chunk);
    yield chunk;
  }
}
