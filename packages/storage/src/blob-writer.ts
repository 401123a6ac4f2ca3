import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";

import { abortable, CacheError } from "@glorious/core";

import type { PutOptions, Written } from "./blob-store.ts";
import { fromSystemError } from "./system-errors.ts";

/** Gathered before a write, so that many small chunks are one system call. */
const BATCH_BYTES = 1024 * 1024;
const MAX_BATCH_CHUNKS = 512;

/**
 * Writes `source` to an empty file, and hashes and counts the bytes as they pass. One batch is
 * written while the next is gathered.
 *
 * @throws {CacheError} as `BlobStore.put` says.
 */
export async function writeBlob(
  source: AsyncIterable<Uint8Array>,
  file: FileHandle,
  options: Pick<PutOptions, "expected" | "giveBack" | "maxSizeBytes" | "signal">,
): Promise<Written> {
  requireRoom(options);
  const hash = createHash("sha256");
  let sizeBytes = 0;
  let batch: Uint8Array[] = [];
  let batchBytes = 0;
  let writing: Promise<void> = Promise.resolve();

  const writeBatch = async (): Promise<void> => {
    await writing;
    const written = batch;
    writing = writeAll(file, written).then(() => {
      if (options.giveBack !== undefined) written.forEach(options.giveBack);
    });
    // Awaited before the next batch, and at the end.
    writing.catch(() => {});
    batch = [];
    batchBytes = 0;
  };

  try {
    for await (const chunk of abortable(source, "Storing a blob", options.signal)) {
      if (chunk.length === 0) continue;
      sizeBytes += chunk.length;
      requireNotTooMany(sizeBytes, options);
      hash.update(chunk);
      batch.push(chunk);
      batchBytes += chunk.length;
      if (batchBytes >= BATCH_BYTES || batch.length >= MAX_BATCH_CHUNKS) await writeBatch();
    }
    if (batchBytes > 0) await writeBatch();
    await writing;
  } finally {
    // The file must not be closed under a write.
    await writing.catch(() => {});
  }
  const written: Written = { sha256: hash.digest("hex"), sizeBytes };
  requireExpected(written, options.expected);
  return written;
}

async function writeAll(file: FileHandle, chunks: readonly Uint8Array[]): Promise<void> {
  try {
    const sizeBytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    let { bytesWritten } = await file.writev(chunks);
    if (bytesWritten === sizeBytes) return;
    // A full disk ends a write early; only the next one says why.
    const bytes = Buffer.concat(chunks);
    while (bytesWritten < sizeBytes) {
      bytesWritten += (await file.write(bytes, bytesWritten)).bytesWritten;
    }
  } catch (error) {
    throw fromSystemError(error, "write a blob");
  }
}

type Limits = Pick<PutOptions, "expected" | "maxSizeBytes">;

function requireRoom({ expected, maxSizeBytes }: Limits): void {
  const sizeBytes = expected?.sizeBytes ?? 0;
  if (maxSizeBytes !== undefined && sizeBytes > maxSizeBytes) {
    throw new CacheError("TOO_LARGE", `${sizeBytes} bytes exceed the limit of ${maxSizeBytes}`);
  }
}

function requireNotTooMany(sizeBytes: number, { expected, maxSizeBytes }: Limits): void {
  if (maxSizeBytes !== undefined && sizeBytes > maxSizeBytes) {
    throw new CacheError("TOO_LARGE", `More than ${maxSizeBytes} bytes came, which is the limit`);
  }
  if (expected?.sizeBytes !== undefined && sizeBytes > expected.sizeBytes) {
    throw new CacheError(
      "CORRUPT",
      `Received more than ${expected.sizeBytes} bytes, which is all there should be`,
    );
  }
}

function requireExpected(written: Written, expected: PutOptions["expected"]): void {
  if (expected?.sizeBytes !== undefined && written.sizeBytes < expected.sizeBytes) {
    throw new CacheError(
      "TRUNCATED",
      `Received ${written.sizeBytes} of ${expected.sizeBytes} bytes`,
      { hint: "Send it again: the transfer was cut." },
    );
  }
  if (expected?.sha256 !== undefined && written.sha256 !== expected.sha256) {
    throw new CacheError(
      "CORRUPT",
      `The ${written.sizeBytes} bytes have sha256 ${written.sha256}, expected was ${expected.sha256}`,
      { hint: "Send it again; if it persists, the sender's copy is damaged." },
    );
  }
}
