import { createHash, hash, randomBytes } from "node:crypto";

import { CacheError } from "@glorious/core";
import { formatHash } from "@glorious/reapi";
import type { BlobStore, Written } from "@glorious/storage";

import { fanOut } from "../../ingest/fan-out.ts";
import type { BlobUpload } from "./bazel-store.ts";
import type { NewObject } from "./bazel-writers.ts";
import { decodeBlob, decodeSmall, maxEncodedBytes, watchFrames } from "./zstd-form.ts";

/** Blobs up to this size lie in the index itself: there they cost a row, not a file, two flushes and a rename. */
export const MAX_INLINE_BYTES: number = 32 * 1024;

/** What takes uploads in. */
export interface IntakeOptions {
  readonly files: BlobStore;
  readonly maxBlobBytes: number;
}

/**
 * Verifies a blob and makes its bytes durable, as they came when they may be served so.
 *
 * @returns What the index is to be told; few bytes may still be a part of what they came in, see {@link ownData}.
 * @throws {CacheError} as `BazelScope.putBlob` says; nothing is left behind then.
 */
export async function takeBlob(upload: BlobUpload, options: IntakeOptions): Promise<NewObject> {
  const { sizeBytes, form, source } = upload;
  if (sizeBytes > options.maxBlobBytes) {
    throw new CacheError(
      "TOO_LARGE",
      `The blob has ${sizeBytes} bytes, the limit is ${options.maxBlobBytes}`,
      { hint: "Raise bazel.maxBlobSize, or keep such outputs out of the cache." },
    );
  }
  if (sizeBytes <= MAX_INLINE_BYTES) {
    const maxBytes = form === "zstd" ? maxEncodedBytes(sizeBytes) : sizeBytes;
    const bytes = source instanceof Uint8Array ? source : await collect(source, maxBytes);
    return await takeSmallBlob(upload, bytes);
  }
  const chunks = source instanceof Uint8Array ? once(bufferOf(source)) : source;
  return form === "zstd"
    ? await takeLargeZstd(upload, chunks, options.files)
    : await takeLarge(upload, chunks, options.files);
}

/** Verifies a blob of at most {@link MAX_INLINE_BYTES} that is at hand; as {@link takeBlob} does. */
export function takeSmallBlob(
  upload: BlobUpload,
  bytes: Uint8Array,
): NewObject | Promise<NewObject> {
  return upload.form === "zstd" ? takeSmallZstd(upload, bytes) : takeSmall(upload, bytes);
}

/** Gives bytes memory of their own: what crosses to the writer's thread takes all that it is a part of along. */
export function ownData<Taken extends NewObject>(object: Taken): Taken {
  return object.data === undefined ? object : { ...object, data: new Uint8Array(object.data) };
}

function takeSmall(upload: BlobUpload, bytes: Uint8Array): NewObject {
  requireDigest(upload, bytes);
  return inline("identity", upload.sizeBytes, bytes);
}

async function takeSmallZstd(upload: BlobUpload, bytes: Uint8Array): Promise<NewObject> {
  const { sizeBytes } = upload;
  requireEncodedSize(upload, bytes.length);
  const frames = watchFrames();
  frames.write(bytes);
  // Decoding on this thread is for what is known to be small on both sides.
  const content = frames.isServable
    ? decodeAtOnce(bytes, sizeBytes)
    : Buffer.concat(await Array.fromAsync(decodeBlob(once(bufferOf(bytes)), sizeBytes)));
  requireDigest(upload, content);
  return frames.isServable && bytes.length < sizeBytes
    ? inline("zstd", sizeBytes, bytes)
    : inline("identity", sizeBytes, content);
}

function decodeAtOnce(bytes: Uint8Array, sizeBytes: number): Buffer {
  try {
    return decodeSmall(bytes, sizeBytes);
  } catch (cause) {
    throw new CacheError("CORRUPT", `The zstd data does not decode to ${sizeBytes} bytes`, {
      cause,
      hint: "Send it again; if it persists, the sender's encoder is at fault.",
    });
  }
}

async function takeLarge(
  upload: BlobUpload,
  chunks: AsyncIterable<Buffer>,
  files: BlobStore,
): Promise<NewObject> {
  const { key, sizeBytes, signal, giveBack } = upload;
  const file = newFileName(upload);
  const expected = { sha256: formatHash(key), sizeBytes };
  await files.put(chunks, { key: file, expected, signal, giveBack });
  return { form: 0, sizeBytes, storedBytes: sizeBytes, file, data: undefined };
}

async function takeLargeZstd(
  upload: BlobUpload,
  chunks: AsyncIterable<Buffer>,
  files: BlobStore,
): Promise<NewObject> {
  const { sizeBytes, signal } = upload;
  // What decodes has done with a chunk when it asks for the next, what stores when it says so.
  const giveBack = upload.giveBack && atSecondTime(upload.giveBack);
  const frames = watchFrames();
  const verified = Promise.withResolvers<void>();
  // Awaited by whoever names the file; a failure is also thrown by the stream itself.
  verified.promise.catch(() => {});
  const file = newFileName(upload);
  const store = (copy: AsyncIterable<Buffer>): Promise<Written | undefined> =>
    files.put(watched(copy, frames), {
      maxSizeBytes: maxEncodedBytes(sizeBytes),
      signal,
      giveBack,
      key: async () => {
        await verified.promise;
        return file;
      },
    });
  const verify = async (copy: AsyncIterable<Buffer>): Promise<void> => {
    try {
      const content = decodeBlob(copy, sizeBytes, { signal, keepsNothing: true });
      await requireStreamDigest(upload, content);
      verified.resolve();
    } catch (error) {
      verified.reject(error);
      throw error;
    }
  };
  const source = giveBack === undefined ? chunks : whenPassed(chunks, giveBack);
  const [written] = await fanOut<[Written | undefined, void]>(source, [store, verify]);
  if (written === undefined) throw new Error("A verified upload was not stored");
  if (frames.isServable && written.sizeBytes < sizeBytes) {
    return { form: 1, sizeBytes, storedBytes: written.sizeBytes, file, data: undefined };
  }
  try {
    const blob = await files.get(file, { signal });
    if (blob === undefined) throw new CacheError("UNAVAILABLE", "An upload is gone from the store");
    await using open = blob;
    const content = decodeBlob(open.stream(), sizeBytes, { signal });
    return await takeLarge({ ...upload, giveBack: undefined }, content, files);
  } finally {
    await files.delete(file);
  }
}

/** Stores a value that nobody knows the hash of beforehand; as {@link takeBlob} does. */
export async function takeValue(
  source: AsyncIterable<Buffer>,
  options: IntakeOptions & {
    readonly sizeBytes?: number | undefined;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<NewObject & { readonly sha256: Uint8Array }> {
  const { files, maxBlobBytes, signal } = options;
  const { sizeBytes } = options;
  if (sizeBytes !== undefined && sizeBytes <= MAX_INLINE_BYTES) {
    const bytes = await collect(source, sizeBytes);
    if (bytes.length < sizeBytes) throw truncated(bytes.length, sizeBytes);
    return { ...inline("identity", sizeBytes, bytes), sha256: sha256Of(bytes) };
  }
  const file = `kv/${nextFolder()}-${newSuffix()}`;
  const written = await files.put(source, {
    key: file,
    maxSizeBytes: maxBlobBytes,
    ...(sizeBytes === undefined ? {} : { expected: { sizeBytes } }),
    signal,
  });
  return {
    form: 0,
    sizeBytes: written.sizeBytes,
    storedBytes: written.sizeBytes,
    file,
    data: undefined,
    sha256: new Uint8Array(Buffer.from(written.sha256, "hex")),
  };
}

function inline(form: "identity" | "zstd", sizeBytes: number, bytes: Uint8Array): NewObject {
  return {
    form: form === "zstd" ? 1 : 0,
    sizeBytes,
    storedBytes: bytes.length,
    file: undefined,
    data: bytes,
  };
}

function requireDigest({ key, sizeBytes }: BlobUpload, content: Uint8Array): void {
  if (content.length < sizeBytes) throw truncated(content.length, sizeBytes);
  if (content.length > sizeBytes) {
    throw new CacheError(
      "CORRUPT",
      `The content has ${content.length} bytes, the digest says ${sizeBytes}`,
    );
  }
  const actual = sha256Of(content);
  if (Buffer.compare(actual, key) !== 0) throw wrongHash(formatHash(key), actual);
}

async function requireStreamDigest(
  { key, sizeBytes }: BlobUpload,
  content: AsyncIterable<Buffer>,
): Promise<void> {
  const hasher = createHash("sha256");
  let contentBytes = 0;
  for await (const chunk of content) {
    hasher.update(chunk);
    contentBytes += chunk.length;
  }
  if (contentBytes < sizeBytes) throw truncated(contentBytes, sizeBytes);
  const actual = hasher.digest();
  if (Buffer.compare(actual, key) !== 0) throw wrongHash(formatHash(key), actual);
}

function wrongHash(expected: string, actual: Buffer): CacheError {
  return new CacheError(
    "CORRUPT",
    `The content has sha256 ${actual.toString("hex")}, its digest says ${expected}`,
    { hint: "Send it again; if it persists, the sender's copy changed while it was read." },
  );
}

function truncated(actualBytes: number, sizeBytes: number): CacheError {
  return new CacheError("TRUNCATED", `Received ${actualBytes} of ${sizeBytes} bytes`, {
    hint: "Send it again: the transfer was cut, or the digest's size is wrong.",
  });
}

function requireEncodedSize({ sizeBytes }: BlobUpload, encodedBytes: number): void {
  if (encodedBytes <= maxEncodedBytes(sizeBytes)) return;
  throw new CacheError(
    "TOO_LARGE",
    `${encodedBytes} bytes of zstd data are too many for ${sizeBytes} bytes of content`,
  );
}

async function collect(source: AsyncIterable<Buffer>, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let collectedBytes = 0;
  for await (const chunk of source) {
    collectedBytes += chunk.length;
    if (collectedBytes > maxBytes) {
      throw new CacheError("CORRUPT", `More than the ${maxBytes} bytes came that there should be`);
    }
    chunks.push(chunk);
  }
  return chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
}

/** The same bytes, not a copy. */
function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

/** Tells of each chunk when the next one is asked for. */
async function* whenPassed(
  chunks: AsyncIterable<Buffer>,
  onPassed: (chunk: Buffer) => void,
): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) {
    yield chunk;
    onPassed(chunk);
  }
}

/** Passes on what comes for the second time. */
function atSecondTime(pass: (chunk: Uint8Array) => void): (chunk: Uint8Array) => void {
  const seen = new Set<Uint8Array>();
  return (chunk) => {
    if (seen.delete(chunk)) pass(chunk);
    else seen.add(chunk);
  };
}

async function* watched(
  chunks: AsyncIterable<Buffer>,
  frames: { write(chunk: Uint8Array): void },
): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) {
    frames.write(chunk);
    yield chunk;
  }
}

function sha256Of(bytes: Uint8Array): Buffer {
  return hash("sha256", bytes, "buffer");
}

/** Every upload has a file of its own: one that is being deleted never meets one that comes anew. */
function newFileName({ key }: BlobUpload): string {
  return `cas/${nextFolder()}-${formatHash(key)}-${newSuffix()}`;
}

/** Tells this process's files from those that another has left. */
const WRITER = randomBytes(6).toString("hex");

function newSuffix(): string {
  return `${WRITER}${randomBytes(6).toString("hex")}`;
}

/** How many files come into a folder before another is chosen. */
const FILES_PER_FOLDER = 256;
let filesNamed = 0;
let folder = "";

/**
 * How the next file's name begins, which chooses its folder. Files of one time share one, so that one flush makes the
 * names of all durable that wait for it; folders are chosen at random, so that all fill evenly.
 */
function nextFolder(): string {
  if (filesNamed % FILES_PER_FOLDER === 0) folder = randomBytes(2).toString("hex").slice(0, 3);
  filesNamed += 1;
  return folder;
}

/** Whether this process has stored the file: its row may be still to come. */
export function isOwnFile(file: string): boolean {
  return file.includes(`-${WRITER}`);
}
