import { createHash, type Hash } from "node:crypto";

import { CacheError, describeError, isCacheError, type Logger } from "@glorious/core";
import { decodeZstd } from "@glorious/nix-store";

import type { Statistics } from "../statistics.ts";
import type { KnownPath, KnownPaths } from "./known-paths.ts";
import { openNarStream } from "./nar-stream.ts";
import type { Spool, SpooledNar } from "./spool.ts";
import type { Miss, Upstream } from "./upstream.ts";

/** Reads the NARs of paths that Nix has asked about, before it asks for them. */
export interface ReadAhead extends AsyncDisposable {
  /** Nix was given this narinfo: it will want the NAR. */
  want(path: KnownPath): void;
  /**
   * Nix wants the NAR now. What the spool has of it, now the caller's to read and to release; `undefined` when it is
   * to be had from the upstream.
   */
  take(path: KnownPath): SpooledNar | undefined;
  /** Puts back what was taken and not read to its end. */
  giveBack(path: KnownPath, nar: SpooledNar): void;
}

/** Options of {@link createReadAhead}. */
export interface ReadAheadOptions {
  readonly upstream: Upstream;
  readonly spool: Spool;
  readonly known: KnownPaths;
  /** Where relative URLs of narinfos begin, with a final slash. */
  readonly cacheUrl: URL;
  /** Larger files are read when Nix asks for them. */
  readonly maxNarBytes: number;
  readonly stallMs: number;
  /** The bytes of a path are not what its narinfo says. */
  readonly onWrong: (path: KnownPath) => void;
  readonly statistics: Statistics;
  readonly logger: Logger;
  readonly nowMs: () => number;
}

/** Small files share connections, so that many are under way at once; large ones share bandwidth. */
const SMALL_FILE_BYTES = 256 * 1024;
const MAX_SMALL = 512;
const MAX_LARGE = 6;
/** What nobody took within this time may go for what is wanted now. */
const IDLE_MS = 60_000;
/** Where a narinfo does not say what its file hashes to, NARs up to this size are unpacked to see. */
const MAX_UNPACKED_BYTES = 8 * 2 ** 20;
/** What zstd may add to bytes that do not compress. */
const OVERHEAD = 1.02;
const OVERHEAD_BYTES = 1024;

interface Reading {
  readonly path: KnownPath;
  readonly nar: SpooledNar;
  readonly isSmall: boolean;
  readonly sinceMs: number;
}

/** A reader with nothing to read. */
export function createReadAhead(options: ReadAheadOptions): ReadAhead {
  const { upstream, spool, known, cacheUrl, maxNarBytes, stallMs, statistics, logger, nowMs } =
    options;
  const closing = new AbortController();
  /** By the hash of the path. */
  const queue = new Map<string, KnownPath>();
  const readings = new Map<string, Reading>();
  /** What was read or taken once is not read ahead again. */
  const done = new Set<string>();
  let small = 0;
  let large = 0;
  let isScheduled = false;

  const schedule = (): void => {
    if (isScheduled || closing.signal.aborted) return;
    isScheduled = true;
    setImmediate(startNext);
  };

  const startNext = (): void => {
    isScheduled = false;
    if (queue.size === 0 || !upstream.isAsked) return;
    // What others refer to is what Nix needs first.
    const byNeed = [...queue.values()].toSorted(
      (one, other) => known.height(one.storePathHash) - known.height(other.storePathHash),
    );
    for (const path of byNeed) {
      const isSmall = sizeBound(path) <= SMALL_FILE_BYTES;
      if (isSmall ? small >= MAX_SMALL : large >= MAX_LARGE) continue;
      const nar = spool.reserve(sizeBound(path)) ?? reserveForIdle(sizeBound(path));
      if (nar === undefined) break;
      queue.delete(path.storePathHash);
      start(path, nar, isSmall);
    }
  };

  /** Makes room by what nobody seems to want. */
  const reserveForIdle = (sizeBytes: number): SpooledNar | undefined => {
    for (const [hash, { nar, sinceMs }] of readings) {
      if (nar.state !== "complete" || nowMs() - sinceMs < IDLE_MS) continue;
      readings.delete(hash);
      statistics.nix.prefetchedUnused(1);
      void nar.release().then(schedule);
      break;
    }
    return spool.reserve(sizeBytes);
  };

  const start = (path: KnownPath, nar: SpooledNar, isSmall: boolean): void => {
    if (isSmall) small += 1;
    else large += 1;
    const hash = path.storePathHash;
    readings.set(hash, { path, nar, isSmall, sinceMs: nowMs() });
    done.add(hash);
    void fill(path, nar, isSmall).finally(() => {
      if (isSmall) small -= 1;
      else large -= 1;
      if (nar.state === "failed" && readings.get(hash)?.nar === nar) readings.delete(hash);
      schedule();
    });
  };

  async function* readSmall(url: URL): AsyncGenerator<Buffer> {
    const bytes = await upstream.readBytes(url, { signal: closing.signal });
    if ("miss" in bytes) throw notHad(bytes);
    yield bytes;
  }

  async function* readLarge(url: URL): AsyncGenerator<Buffer> {
    const stream = await openNarStream(upstream, url, { stallMs, signal: closing.signal });
    if ("miss" in stream) throw notHad(stream);
    yield* stream.chunks;
  }

  const fill = async (path: KnownPath, nar: SpooledNar, isSmall: boolean): Promise<void> => {
    try {
      const url = new URL(path.url, cacheUrl);
      const hash = createHash("sha256");
      for await (const chunk of isSmall ? readSmall(url) : readLarge(url)) {
        hash.update(chunk);
        await nar.append(chunk);
      }
      await requireRightBytes(path, nar, hash);
      statistics.nix.prefetched(1);
      nar.complete();
    } catch (error) {
      if (isCacheError(error, "CORRUPT")) options.onWrong(path);
      const reason = isCacheError(error)
        ? error
        : new CacheError("UNAVAILABLE", "Reading ahead failed", { cause: error });
      logger.debug("a NAR was not read ahead", { error: describeError(error) });
      nar.fail(reason);
    }
  };

  return {
    want(path) {
      const hash = path.storePathHash;
      if (done.has(hash) || queue.has(hash) || sizeBound(path) > maxNarBytes) return;
      if (isElsewhere(path.url)) return;
      // On a fast link the way through the spool only costs.
      if (upstream.isNear && sizeBound(path) > SMALL_FILE_BYTES) return;
      queue.set(hash, path);
      schedule();
    },
    take(path) {
      const hash = path.storePathHash;
      queue.delete(hash);
      done.add(hash);
      const reading = readings.get(hash);
      readings.delete(hash);
      return reading?.nar.state === "failed" ? undefined : reading?.nar;
    },
    giveBack(path, nar) {
      if (nar.state === "failed" || readings.has(path.storePathHash)) void nar.release();
      else {
        const isSmall = sizeBound(path) <= SMALL_FILE_BYTES;
        readings.set(path.storePathHash, { path, nar, isSmall, sinceMs: nowMs() });
      }
      schedule();
    },
    async [Symbol.asyncDispose]() {
      closing.abort();
      const unused = [...readings.values()].filter(({ nar }) => nar.state === "complete");
      if (unused.length > 0) statistics.nix.prefetchedUnused(unused.length);
      await Promise.all([...readings.values()].map(({ nar }) => nar.release()));
    },
  };
}

function notHad({ miss }: Miss): CacheError {
  return new CacheError("UNAVAILABLE", `The cache did not give it: ${miss}`);
}

/** The most bytes that a path's file has. */
function sizeBound({ fileSize, narSize }: KnownPath): number {
  return fileSize ?? Math.ceil(narSize * OVERHEAD) + OVERHEAD_BYTES;
}

/** Nix reads an absolute address itself, not through the face. */
function isElsewhere(url: string): boolean {
  return /^[a-z][a-z0-9+.-]*:|^\//i.test(url);
}

/** @throws {CacheError} `CORRUPT` for bytes that are not what the narinfo says, as far as that can be told. */
async function requireRightBytes(path: KnownPath, nar: SpooledNar, hash: Hash): Promise<void> {
  const { fileHash, fileSize, narHash, narSize, compression } = path;
  if (fileSize !== undefined && fileSize !== nar.writtenBytes) throw wrongBytes(path);
  if (fileHash !== undefined) {
    if (hash.digest("hex") !== fileHash) throw wrongBytes(path);
    return;
  }
  if (narSize > MAX_UNPACKED_BYTES || (compression !== "zstd" && compression !== "none")) return;
  const bytes = copied(nar.read(0, nar.writtenBytes));
  const narBytes = createHash("sha256");
  try {
    for await (const chunk of compression === "none" ? bytes : decodeZstd(bytes)) {
      narBytes.update(chunk);
    }
  } catch (error) {
    if (isCacheError(error, "CORRUPT") || isCacheError(error, "TRUNCATED")) throw wrongBytes(path);
    throw error;
  }
  if (narBytes.digest("hex") !== narHash) throw wrongBytes(path);
}

/** The decoder keeps chunks for longer than the spool lends them. */
async function* copied(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) yield Buffer.from(chunk);
}

function wrongBytes({ url }: KnownPath): CacheError {
  return new CacheError("CORRUPT", `The cache sent other bytes for ${url} than its narinfo says`);
}
