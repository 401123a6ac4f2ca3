import { CacheError } from "@glorious/core";
import {
  createBlockPool,
  createZstdScanner,
  encodeNar,
  maxEncodedBytes,
  sha256HexToNix32,
  type ZstdScanner,
} from "@glorious/nix-store";
import type { BlobStore, Written } from "@glorious/storage";

import type {
  CacheIndex,
  HoldingRecord,
  ObjectCompression,
  ObjectRecord,
} from "../index/cache-index.ts";
import { fanOut } from "./fan-out.ts";
import type { HeldObjects } from "./held-objects.ts";
import { type NarFacts, measureNar, tooLarge } from "./measure-nar.ts";
import { decodeNar } from "./nar-decoder.ts";
import { objectKey } from "./object-key.ts";
import { createSingleFlight } from "./single-flight.ts";
import type { UploadMemory } from "./upload-memory.ts";

/** A NAR as a client sends it. */
export interface NarUpload {
  readonly viewId: number;
  readonly source: AsyncIterable<Buffer>;
  readonly compression: ObjectCompression;
  /** What the client says of it; checked while it streams. */
  readonly expected: {
    readonly narHash?: string;
    readonly narSize?: number;
    readonly fileHash?: string;
  };
  /** Keeps the bytes readable in the view as they came: Nix asks for its own uploads again. */
  readonly keepsFile: boolean;
  /** zstd level of what is encoded here. Default: the server's. */
  readonly level?: number | undefined;
  readonly signal: AbortSignal;
}

export interface IngestedNar {
  readonly kind: "uploaded" | "deduplicated";
  /** The stored object that this view holds the NAR as. */
  readonly object: ObjectRecord;
}

/**
 * Takes NARs in: verifies while it streams, stores one zstd object each, and records that the view holds it.
 *
 * Nothing is recorded before everything the client said has been found true. What the view holds expires
 * unless a path is committed for it.
 */
export interface NarIngest {
  ingest(upload: NarUpload): Promise<IngestedNar>;
  /** What the view holds of a NAR, kept for as long as a new upload; undefined when it has to be sent. */
  hold(viewId: number, narHash: string): Promise<ObjectRecord | undefined>;
}

export interface NarIngestOptions {
  readonly index: CacheIndex;
  readonly store: BlobStore;
  readonly held: HeldObjects;
  readonly memory: UploadMemory;
  readonly now: () => number;
  readonly maxNarSizeBytes: number;
  readonly level: number;
  /** How long a NAR, and the file it came as, wait for their path. */
  readonly pendingMaxAgeMs: number;
  /** How long an upload waits for another one of the same NAR before it does the work again. */
  readonly maxWaitMs: number;
}

/** Blocks of 8 MiB that the encoder leaves for the next NAR. */
const MAX_IDLE_BLOCKS = 2;

/** An upload under way. */
interface Intake {
  readonly upload: NarUpload;
  /** What the view held when the first of the upload's bytes became visible: these may heal what was lost. */
  held: Promise<HoldingRecord | undefined> | undefined;
}

export function createNarIngest(options: NarIngestOptions): NarIngest {
  const { index, store, held, memory, now, maxNarSizeBytes } = options;
  const flights = createSingleFlight();
  const blocks = createBlockPool(MAX_IDLE_BLOCKS);

  /** Names the blob once its bytes are known to be right, after telling the sweep to leave it alone. */
  const reserve = async (object: ObjectRecord, intake: Intake): Promise<string> => {
    const { signal, viewId } = intake.upload;
    intake.held ??= held.findSound(viewId, object.narHash);
    await intake.held;
    await held.reserve(object, signal);
    return objectKey(object.fileHash);
  };

  /** Encodes a NAR with the server's own encoder, whose bytes tenants may share. */
  const storeEncoded = async (
    nar: AsyncIterable<Buffer>,
    facts: () => Promise<NarFacts>,
    intake: Intake,
  ): Promise<ObjectRecord> => {
    const { level = options.level, signal, expected } = intake.upload;
    let object: ObjectRecord | undefined;
    await store.put(encodeNar(nar, { level, signal, blocks, sizeBytes: expected.narSize }), {
      signal,
      key: async (written) => {
        object = describeObject(written, "zstd", await facts());
        return reserve(object, intake);
      },
    });
    return required(object);
  };

  /** Stores the bytes exactly as they came. */
  const storeAsIs = async (
    chunks: AsyncIterable<Buffer>,
    intake: Intake,
    facts: () => Promise<NarFacts>,
  ): Promise<ObjectRecord> => {
    const { upload } = intake;
    let object: ObjectRecord | undefined;
    await store.put(chunks, {
      signal: upload.signal,
      key: async (written) => {
        requireFileHash(written, upload.expected.fileHash);
        object = describeObject(written, upload.compression, await facts());
        return reserve(object, intake);
      },
    });
    return required(object);
  };

  /** The stored object of an upload whose own encoding may not be served to others, or was none. */
  const reencode = async (
    file: ObjectRecord,
    intake: Intake,
    maxWindowLog: number,
  ): Promise<ObjectRecord> => {
    const { signal } = intake.upload;
    using _ = await memory.admitEncoding(maxWindowLog, file.narSize, signal);
    const blob = await store.get(objectKey(file.fileHash), { signal });
    if (blob === undefined)
      throw new CacheError("UNAVAILABLE", "The upload is gone from the store");
    await using open = blob;
    const nar = decodeNar(open.stream(), file.compression, signal, maxWindowLog);
    return await storeEncoded(nar, () => Promise.resolve(file), intake);
  };

  const storeUpload = async (
    intake: Intake,
  ): Promise<{ readonly file: ObjectRecord | undefined; readonly object: ObjectRecord }> => {
    const { upload } = intake;
    // Given back before more is taken for encoding again: who holds some never waits for more.
    using admitted = await memory.admit({ ...upload, narSize: upload.expected.narSize });
    const { source, maxWindowLog } = admitted;
    const facts = Promise.withResolvers<NarFacts>();
    // Awaited by whoever names a blob; a failure is also thrown by the stream itself.
    facts.promise.catch(() => {});
    const measure = async (chunks: AsyncIterable<Buffer>): Promise<void> => {
      try {
        const measured = await measureNar(chunks, upload.expected, maxNarSizeBytes);
        // Here the file is the NAR: nothing may be named before both are known to be right.
        if (upload.compression === "none") {
          const { narHash: sha256, narSize: sizeBytes } = measured;
          requireFileHash({ sha256, sizeBytes }, upload.expected.fileHash);
        }
        facts.resolve(measured);
      } catch (error) {
        facts.reject(error);
        throw error;
      }
    };
    const getFacts = (): Promise<NarFacts> => facts.promise;
    if (upload.compression === "none") {
      if (!upload.keepsFile) {
        const [, object] = await fanOut<[void, ObjectRecord]>(source, [
          measure,
          (chunks) => storeEncoded(chunks, getFacts, intake),
        ]);
        return { file: undefined, object };
      }
      const [, file, object] = await fanOut<[void, ObjectRecord, ObjectRecord]>(source, [
        measure,
        (chunks) => storeAsIs(chunks, intake, getFacts),
        (chunks) => storeEncoded(chunks, getFacts, intake),
      ]);
      return { file, object };
    }
    const scanner = upload.compression === "zstd" ? createZstdScanner() : undefined;
    const scanned = scanner === undefined ? source : scan(source, scanner);
    const [, file] = await fanOut<[void, ObjectRecord]>(scanned, [
      (chunks) => measure(decodeNar(chunks, upload.compression, upload.signal, maxWindowLog)),
      (chunks) => storeAsIs(chunks, intake, getFacts),
    ]);
    const isAcceptable = scanner !== undefined && isAcceptableEncoding(scanner, file);
    if (isAcceptable) return { file, object: file };
    admitted[Symbol.dispose]();
    return { file, object: await reencode(file, intake, maxWindowLog) };
  };

  /** Another proof of a NAR the view holds already: verified like a first upload, stored no second time. */
  const verifyOnly = async (upload: NarUpload): Promise<void> => {
    using admitted = await memory.admit({ ...upload, narSize: upload.expected.narSize });
    const { source, maxWindowLog } = admitted;
    const nar = decodeNar(source, upload.compression, upload.signal, maxWindowLog);
    await measureNar(nar, upload.expected, maxNarSizeBytes);
  };

  const record = async (
    { upload, held: found }: Intake,
    file: ObjectRecord | undefined,
    object: ObjectRecord,
  ): Promise<IngestedNar> => {
    const { viewId } = upload;
    const sound = await found;
    await held.restore(object);
    if (file !== undefined && file !== object) await held.restore(file);
    const holding = await index.holdNar({
      viewId,
      narHash: object.narHash,
      fileHash: object.fileHash,
      expiresAtMs: now() + options.pendingMaxAgeMs,
      ...(sound === undefined ? { replaceObject: true } : {}),
    });
    if (upload.keepsFile && file !== undefined) {
      await index.addUploadedFile({
        viewId,
        fileHash: file.fileHash,
        compression: file.compression,
        narHash: file.narHash,
        narSize: file.narSize,
        expiresAtMs: now() + options.pendingMaxAgeMs,
      });
    }
    await index.addCounts(viewId, { uploads: 1, uploadedNarBytes: object.narSize });
    return { kind: sound === undefined ? "uploaded" : "deduplicated", object: holding };
  };

  const ingest = async (upload: NarUpload): Promise<IngestedNar> => {
    const { viewId, expected } = upload;
    // The uploader's own Nix will ask for exactly this file, so it is stored whatever the view holds.
    const found = upload.keepsFile ? undefined : await held.findSound(viewId, expected.narHash);
    if (found !== undefined) {
      await verifyOnly(upload);
      return { kind: "deduplicated", object: await held.holdOn(viewId, found) };
    }
    const intake: Intake = { upload, held: undefined };
    const { file, object } = await storeUpload(intake);
    return record(intake, file, object);
  };

  return {
    async hold(viewId, narHash) {
      const found = await held.findSound(viewId, narHash);
      return found && held.holdOn(viewId, found);
    },
    async ingest(upload) {
      const { viewId, expected } = upload;
      // Said beforehand to be too large: not a byte of it is wanted.
      if ((expected.narSize ?? 0) > maxNarSizeBytes) throw tooLarge(maxNarSizeBytes);
      const name = expected.narHash ?? expected.fileHash;
      if (name === undefined) return ingest(upload);
      const flight = `${viewId} ${upload.keepsFile} ${name}`;
      const turn = await flights.enter(flight, options.maxWaitMs, upload.signal);
      if (turn.kind === "done" && !upload.keepsFile) return ingest(upload);
      if (turn.kind === "done") {
        const file = await index.findUploadedFile(viewId, name, upload.compression);
        const narHash = file?.narHash;
        return ingest(
          narHash === undefined
            ? upload
            : { ...upload, keepsFile: false, expected: { ...expected, narHash } },
        );
      }
      let succeeded = false;
      try {
        const result = await ingest(upload);
        succeeded = true;
        return result;
      } finally {
        turn.finish(succeeded);
      }
    },
  };
}

async function* scan(source: AsyncIterable<Buffer>, scanner: ZstdScanner): AsyncGenerator<Buffer> {
  for await (const chunk of source) {
    scanner.write(chunk);
    yield chunk;
  }
  scanner.end();
}

/** Whether clients' zstd may be served as it came; other encodings are replaced by our own. */
function isAcceptableEncoding(scanner: ZstdScanner, file: ObjectRecord): boolean {
  return scanner.violation === undefined && file.fileSize <= maxEncodedBytes(file.narSize);
}

function requireFileHash({ sha256, sizeBytes }: Written, expected: string | undefined): void {
  if (expected === undefined || expected === sha256) return;
  throw new CacheError(
    "CORRUPT",
    `Bad file hash: the ${sizeBytes} bytes hash to ${sha256HexToNix32(sha256)}, ` +
      `not to ${sha256HexToNix32(expected)}`,
    { hint: "Send the file again under the hash of its bytes." },
  );
}

function describeObject(
  { sha256, sizeBytes }: Written,
  compression: ObjectCompression,
  { narHash, narSize }: NarFacts,
): ObjectRecord {
  return { fileHash: sha256, fileSize: sizeBytes, compression, narHash, narSize };
}

function required(object: ObjectRecord | undefined): ObjectRecord {
  if (object === undefined) throw new Error("The store named no blob");
  return object;
}
