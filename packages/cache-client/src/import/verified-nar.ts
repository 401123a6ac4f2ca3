import { createHash } from "node:crypto";

import { CacheError, type CacheErrorCode } from "@glorious/core";
import { createContentCheck, decompressNar } from "@glorious/nix-store";

import type { CheckedNarOptions } from "../checked-nar.ts";
import { NarSourceError } from "../nar-source.ts";
import type { CacheSource, SourcePath } from "./cache-source.ts";
import { decodeXz } from "./decode-xz.ts";

/**
 * Reads a path's NAR from a source, uncompressed, and holds file and NAR against what the narinfo says. The last chunk is
 * kept back until all of it is known to be right.
 *
 * @throws {CacheError} `CORRUPT` or `TRUNCATED` when they differ; whatever the source throws.
 */
export async function* readVerifiedNar(
  source: Pick<CacheSource, "read">,
  path: SourcePath,
  { onRead, signal }: CheckedNarOptions,
): AsyncGenerator<Buffer, void, undefined> {
  const check = createCheck(path);
  const file = tap(source.read(path, signal), (chunk) => check.file(chunk));
  const nar = decompressNar(file, path.compression, { xz: decodeXz, signal });
  let held: Buffer | undefined;
  for await (const chunk of naming(path, nar)) {
    const narBytes = check.nar(chunk);
    onRead?.(narBytes);
    if (held !== undefined) yield held;
    // The decoder uses its chunk again; a copy outlives that.
    held = path.compression === "zstd" ? Buffer.from(chunk) : chunk;
  }
  check.end();
  if (held !== undefined) yield held;
}

/**
 * The same, with the file's own bytes as what comes out: for those that need no other encoding.
 */
export async function* readVerifiedFile(
  source: Pick<CacheSource, "read">,
  path: SourcePath,
  { onRead, signal }: CheckedNarOptions,
): AsyncGenerator<Buffer, void, undefined> {
  const check = createCheck(path);
  // What the decoder has taken in; as much as it asks for before it gives something.
  const passed: Buffer[] = [];
  const file = tap(source.read(path, signal), (chunk) => {
    check.file(chunk);
    passed.push(chunk);
  });
  const nar = decompressNar(file, path.compression, { xz: decodeXz, signal });
  for await (const chunk of naming(path, nar)) {
    const narBytes = check.nar(chunk);
    onRead?.(narBytes);
    while (passed.length > 1) yield passed.shift() ?? Buffer.alloc(0);
  }
  check.end();
  yield* passed;
}

async function* tap(
  chunks: AsyncIterable<Buffer>,
  onChunk: (chunk: Buffer) => void,
): AsyncGenerator<Buffer, void, undefined> {
  for await (const chunk of chunks) {
    onChunk(chunk);
    yield chunk;
  }
}

/** What is wrong with the bytes of one path says nothing of the others, and decoders know no path. */
async function* naming(
  { storePath }: SourcePath,
  chunks: AsyncIterable<Buffer>,
): AsyncGenerator<Buffer, void, undefined> {
  try {
    yield* chunks;
  } catch (error) {
    if (!(error instanceof CacheError) || !OF_THE_BYTES.has(error.code)) throw error;
    if (error instanceof NarSourceError) throw error;
    const message = `${storePath.path}: ${error.message}`;
    throw new NarSourceError(new CacheError(error.code, message, { cause: error }));
  }
}

const OF_THE_BYTES: ReadonlySet<CacheErrorCode> = new Set([
  "CORRUPT",
  "TRUNCATED",
  "TOO_LARGE",
  "UNSUPPORTED",
]);

interface Check {
  file(chunk: Buffer): void;
  /** The bytes of the NAR so far. @throws {CacheError} `CORRUPT` beyond what it may have. */
  nar(chunk: Buffer): number;
  /** @throws {CacheError} `CORRUPT` or `TRUNCATED`. */
  end(): void;
}

function createCheck(path: SourcePath): Check {
  const { storePath, narHash, narSize, fileHash, fileSize, provedBy } = path;
  const proof = provedBy && createContentCheck(provedBy);
  const wrong = (reason: string): CacheError =>
    new NarSourceError(new CacheError("CORRUPT", `${storePath.path}: the source's ${reason}`));
  const ofFile = createHash("sha256");
  const ofNar = createHash("sha256");
  let fileBytes = 0;
  let narBytes = 0;
  return {
    file: (chunk) => {
      fileBytes += chunk.length;
      if (fileSize !== undefined && fileBytes > fileSize) {
        throw wrong(`file is longer than the ${fileSize} bytes of its narinfo`);
      }
      if (fileHash !== undefined) ofFile.update(chunk);
    },
    nar: (chunk) => {
      narBytes += chunk.length;
      if (narBytes > narSize) throw wrong(`NAR is longer than the ${narSize} bytes of its narinfo`);
      ofNar.update(chunk);
      proof?.write(chunk);
      return narBytes;
    },
    end: () => {
      if (narBytes !== narSize)
        throw wrong(`NAR has ${narBytes} bytes, its narinfo says ${narSize}`);
      if (fileSize !== undefined && fileBytes !== fileSize) {
        throw wrong(`file has ${fileBytes} bytes, its narinfo says ${fileSize}`);
      }
      const nar = ofNar.digest("hex");
      if (nar !== narHash) throw wrong(`NAR hashes to sha256:${nar}, not to sha256:${narHash}`);
      if (proof?.end() === false) {
        throw wrong("NAR is not what its content address says, and no key signed it");
      }
      const file = ofFile.digest("hex");
      if (fileHash !== undefined && file !== fileHash) {
        throw wrong(`file hashes to sha256:${file}, not to sha256:${fileHash}`);
      }
    },
  };
}
