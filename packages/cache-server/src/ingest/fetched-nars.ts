import { createHash, type Hash } from "node:crypto";

import { CacheError } from "@glorious/core";
import { encodeNar } from "@glorious/nix-store";
import type { BlobStore } from "@glorious/storage";

import type { CacheIndex, ObjectCompression, ObjectRecord } from "../index/cache-index.ts";
import type { HeldObjects } from "./held-objects.ts";
import { measureNar, type NarFacts } from "./measure-nar.ts";
import { decodeNar } from "./nar-decoder.ts";
import { verifyOnThread } from "./nar-verifier.ts";
import { objectKey } from "./object-key.ts";
import { isPlainlyRight, SMALL_NAR_BYTES } from "./small-nar.ts";
import type { UploadMemory } from "./upload-memory.ts";

/** A NAR file that the server fetched itself, while it comes. */
export interface FetchedNar {
  readonly source: AsyncIterable<Buffer>;
  readonly compression: ObjectCompression;
  /** What somebody who is believed says of the NAR. */
  readonly expected: NarFacts;
  readonly signal: AbortSignal;
}

/** Takes in NAR files that were fetched: nobody waits for their path, and they stay as they came. */
export interface FetchedNars {
  /**
   * Decodes a file and holds its NAR against what is expected.
   *
   * @returns The file's SHA-256, hexadecimal.
   * @throws {CacheError} `CORRUPT`, `TRUNCATED`, `TOO_LARGE` or `UNSUPPORTED`; errors of the source as they are.
   */
  verify(nar: FetchedNar): Promise<string>;
  /**
   * Makes a file that was verified what the view holds of its NAR, unless it holds that already.
   *
   * @param file A file on the disk, which is gone then, or its owner's to remove.
   * @returns What the view holds.
   */
  keep(
    viewId: number,
    file: string,
    object: ObjectRecord,
    signal: AbortSignal,
  ): Promise<ObjectRecord>;
  /**
   * Stores a NAR, of which an object is there in some encoding, in zstd as well. Nobody holds that yet.
   *
   * @throws {CacheError} `UNAVAILABLE` when the object is gone, `CORRUPT` when it is damaged.
   */
  encode(object: ObjectRecord, signal: AbortSignal): Promise<ObjectRecord>;
}

export interface FetchedNarsOptions {
  readonly index: CacheIndex;
  readonly store: BlobStore;
  readonly held: HeldObjects;
  readonly memory: UploadMemory;
  readonly now: () => number;
  readonly maxNarSizeBytes: number;
  /** The zstd level of what is encoded. */
  readonly level: number;
  /** How long a NAR waits for its path. */
  readonly pendingMaxAgeMs: number;
}

/** For the memory that decoding needs: more than any but zstd's long windows. */
const WINDOW_LOG = 23;

export function createFetchedNars(options: FetchedNarsOptions): FetchedNars {
  const { index, store, held, memory, now, maxNarSizeBytes, pendingMaxAgeMs } = options;
  return {
    async verify({ source: given, compression, expected, signal }) {
      const { narSize } = expected;
      let source = given;
      if (narSize <= SMALL_NAR_BYTES && compression === "zstd") {
        // No larger than the NAR, or hardly: its reader sees to that.
        const chunks = await Array.fromAsync(given);
        const file = Buffer.concat(chunks);
        if (isPlainlyRight(file, expected)) return createHash("sha256").update(file).digest("hex");
        source = replay(chunks);
      }
      if (compression === "none") {
        if (narSize > SMALL_NAR_BYTES) {
          return verifyOnThread({
            source,
            compression,
            expected,
            maxNarSizeBytes,
            maxWindowLog: 0,
          });
        }
        await measureNar(source, expected, maxNarSizeBytes);
        return expected.narHash;
      }
      using admitted = await memory.admit({ source, compression, narSize, signal });
      const { maxWindowLog } = admitted;
      source = admitted.source;
      if (compression !== "xz") {
        return verifyOnThread({ source, compression, expected, maxNarSizeBytes, maxWindowLog });
      }
      // Its decoder has a thread of its own.
      const hash = createHash("sha256");
      const nar = decodeNar(hashed(source, hash), compression, signal, maxWindowLog);
      await measureNar(nar, expected, maxNarSizeBytes);
      return hash.digest("hex");
    },
    async keep(viewId, file, object, signal) {
      const { narHash, fileHash } = object;
      const sound = await held.findSound(viewId, narHash);
      if (sound !== undefined) return held.holdOn(viewId, sound);
      await held.reserve(object, signal);
      await store.adopt(file, { key: objectKey(fileHash), signal });
      await held.restore(object);
      return index.holdNar({
        viewId,
        narHash,
        fileHash,
        expiresAtMs: now() + pendingMaxAgeMs,
        isAsItCame: true,
        replaceObject: true,
      });
    },
    async encode({ fileHash, compression, narHash, narSize }, signal) {
      using _ = await memory.admitEncoding(WINDOW_LOG, narSize, signal);
      const blob = await store.get(objectKey(fileHash), { signal });
      if (blob === undefined) throw new CacheError("UNAVAILABLE", "The fetched file is gone");
      await using open = blob;
      const hash = createHash("sha256");
      const nar = hashed(decodeNar(open.stream(), compression, signal), hash);
      const encoding = encodeNar(nar, { level: options.level, signal, sizeBytes: narSize });
      let encoded: ObjectRecord | undefined;
      await store.put(encoding, {
        signal,
        async key({ sha256, sizeBytes }) {
          if (hash.digest("hex") !== narHash) {
            throw new CacheError("CORRUPT", "The fetched file is damaged", {
              hint: "The next scrub puts it into quarantine; it is then fetched again.",
            });
          }
          encoded = {
            fileHash: sha256,
            fileSize: sizeBytes,
            compression: "zstd",
            narHash,
            narSize,
          };
          await held.reserve(encoded, signal);
          return objectKey(sha256);
        },
      });
      if (encoded === undefined) throw new Error("The store named no blob");
      await held.restore(encoded);
      return encoded;
    },
  };
}

async function* replay(chunks: readonly Buffer[]): AsyncGenerator<Buffer> {
  yield* chunks;
}

async function* hashed(chunks: AsyncIterable<Buffer>, hash: Hash): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) {
    hash.update(chunk);
    yield chunk;
  }
}
