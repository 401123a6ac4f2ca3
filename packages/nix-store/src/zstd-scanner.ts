import { NAR_ENCODING } from "./nar-encoding.ts";
import {
  createZstdFrameReader,
  type ZstdFrameHeader,
  type ZstdFrameSummary,
} from "./zstd-frames.ts";

/** Judges a zstd stream by its headers while it passes; see {@link createZstdScanner}. */
export interface ZstdScanner {
  /** @throws {CacheError} `CORRUPT` when the bytes are no zstd stream: no decoder accepts them. */
  write(chunk: Uint8Array): void;
  /** @throws {CacheError} `TRUNCATED` when the stream ends inside a frame or holds none. */
  end(): void;
  /** Complete frames so far, skippable ones left out. */
  readonly frames: number;
  /** The sum of the content sizes that frame headers state, in bytes; undefined once one does not. */
  readonly contentBytes: number | undefined;
  /** The complete frames decompress to at most this many bytes. */
  readonly maxContentBytes: number;
  /** The largest window so far, in bytes. */
  readonly windowBytes: number;
  /** The first reason why this is no acceptable stored encoding of a NAR; undefined while it is one. */
  readonly violation: string | undefined;
}

/**
 * Creates a scanner that tells, without decompressing, whether a zstd stream keeps the rules of
 * {@link NAR_ENCODING}, so that its bytes may be stored and served as they are.
 *
 * The rules protect every later reader, and keep data out that a decoder would not show:
 * - no skippable frame, no dictionary, no window over 8 MiB, no unused header bit;
 * - every frame states its content size, at most 16 MiB;
 * - every frame but the last holds at least 64 KiB, and none is empty unless it is the only one;
 * - no empty block before the last of a frame, and no more than one block per KiB of content on
 *   average (the first 16 are free): an encoder that splits blocks stays far below that.
 *
 * The scanner does not see whether compressed blocks decode, and does not know the size of the NAR:
 * decode the stream too, and compare its length with {@link maxEncodedBytes}.
 */
export function createZstdScanner(): ZstdScanner {
  return new Scanner();
}

const FREE_BLOCKS = 16;

class Scanner implements ZstdScanner {
  frames = 0;
  contentBytes: number | undefined = 0;
  maxContentBytes = 0;
  windowBytes = 0;
  violation: string | undefined;
  #previousContentBytes: number | undefined;
  readonly #reader = createZstdFrameReader({
    frame: (header) => this.#checkFrame(header),
    frameEnd: (summary) => this.#checkFrameEnd(summary),
    skippable: (sizeBytes) => this.#report(`a skippable frame of ${sizeBytes} bytes`),
  });

  write(chunk: Uint8Array): void {
    this.#reader.write(chunk);
  }

  end(): void {
    this.#reader.end();
  }

  #checkFrame(header: ZstdFrameHeader): void {
    const { contentBytes, windowBytes, dictionaryId } = header;
    const { minFrameBytes, maxFrameBytes, maxWindowBytes } = NAR_ENCODING;
    this.windowBytes = Math.max(this.windowBytes, windowBytes);
    this.contentBytes =
      this.contentBytes === undefined || contentBytes === undefined
        ? undefined
        : this.contentBytes + contentBytes;

    if (dictionaryId !== 0) this.#report(`a frame needs dictionary ${dictionaryId}`);
    if (windowBytes > maxWindowBytes) {
      this.#report(
        `a frame needs a window of ${windowBytes} bytes, the limit is ${maxWindowBytes}`,
      );
    }
    if (header.hasUnusedBit) this.#report("a frame header has its unused bit set");
    if (contentBytes === undefined) {
      this.#report("a frame does not state its content size");
    } else if (contentBytes > maxFrameBytes) {
      this.#report(`a frame holds ${contentBytes} bytes, the limit is ${maxFrameBytes}`);
    }
    if (this.frames === 0) {
      this.#previousContentBytes = contentBytes;
      return;
    }
    if (contentBytes === 0) this.#report("an empty frame");
    if (this.#previousContentBytes !== undefined && this.#previousContentBytes < minFrameBytes) {
      this.#report(
        `a frame that is not the last holds ${this.#previousContentBytes} bytes, at least ${minFrameBytes} are asked for`,
      );
    }
    this.#previousContentBytes = contentBytes;
  }

  #checkFrameEnd(summary: ZstdFrameSummary): void {
    this.frames += 1;
    this.maxContentBytes += summary.maxContentBytes;
    if (summary.emptyBlocks > 0) this.#report("a frame has empty blocks");
    const maxBlocks =
      FREE_BLOCKS + Math.ceil(summary.maxContentBytes / NAR_ENCODING.minAverageBlockBytes);
    if (summary.blocks > maxBlocks) {
      this.#report(
        `a frame of ${summary.maxContentBytes} bytes has ${summary.blocks} blocks, the limit is ${maxBlocks}`,
      );
    }
  }

  #report(violation: string): void {
    this.violation ??= violation;
  }
}
