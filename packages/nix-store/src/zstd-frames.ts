import { CacheError } from "@glorious/core";

/** What the header of a zstd frame says. */
export interface ZstdFrameHeader {
  /** The memory a decoder needs for back references, in bytes; the content size of a single-segment frame. */
  readonly windowBytes: number;
  /** The decompressed size, in bytes; undefined when the header does not say. */
  readonly contentBytes: number | undefined;
  /** 0 when no dictionary is named. */
  readonly dictionaryId: number;
  readonly hasChecksum: boolean;
  /** The bit that RFC 8878 leaves unused: decoders ignore it, honest encoders write 0. */
  readonly hasUnusedBit: boolean;
}

/** What is known about a frame at its end, from its block headers alone. */
export interface ZstdFrameSummary {
  readonly header: ZstdFrameHeader;
  readonly blocks: number;
  /** Blocks without any content that are not the last of their frame. */
  readonly emptyBlocks: number;
  /** The frame decompresses to at most this many bytes. */
  readonly maxContentBytes: number;
}

/** Receives what {@link createZstdFrameReader} finds, in stream order. */
export interface ZstdFrameHandler {
  frame?(header: ZstdFrameHeader): void;
  frameEnd?(summary: ZstdFrameSummary): void;
  /** A skippable frame with this many bytes of user data. */
  skippable?(sizeBytes: number): void;
  /**
   * Bytes of frames that are not skippable, headers included, cut so that no call spans two frames.
   * They are views into the written chunk.
   */
  data?(bytes: Uint8Array): void;
}

/** A push parser over the frame and block headers of a zstd stream; it never decompresses. */
export interface ZstdFrameReader {
  /** @throws {CacheError} `CORRUPT` when the bytes are no zstd stream. */
  write(chunk: Uint8Array): void;
  /** @throws {CacheError} `TRUNCATED` when the stream ends inside a frame, or has none. */
  end(): void;
}

const ZSTD_MAGIC = 0xfd2f_b528;
const SKIPPABLE_MAGIC = 0x184d_2a50;
const MAX_BLOCK_BYTES = 128 * 1024;
/** Magic, descriptor, window, dictionary id and content size. */
const MAX_HEADER_BYTES = 4 + 1 + 1 + 4 + 8;
/** The shortest compressed block: a literals header and a count of no sequences. */
const MIN_COMPRESSED_BLOCK_BYTES = 2;
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const;
const RAW_BLOCK = 0;
const RLE_BLOCK = 1;
const RESERVED_BLOCK = 3;

/** Steps that collect header bytes. */
type HeaderStep = "magic" | "skippableSize" | "descriptor" | "header" | "blockHeader";
/** Steps that only count bytes. */
type BodyStep = "body" | "checksum" | "skip";

/**
 * Creates a parser of zstd frame and block headers with a few bytes of state.
 *
 * It throws only for what no decoder accepts, including content sizes that the blocks cannot add up
 * to. It holds the grammar; {@link createZstdScanner} adds the rules for stored NARs.
 *
 * @see RFC 8878, sections 3.1.1 and 3.1.2.
 */
export function createZstdFrameReader(handler: ZstdFrameHandler): ZstdFrameReader {
  return new FrameReader(handler);
}

class FrameReader implements ZstdFrameReader {
  readonly #handler: ZstdFrameHandler;
  readonly #scratch: Buffer = Buffer.alloc(MAX_HEADER_BYTES);
  #scratchBytes = 0;
  #step: HeaderStep | BodyStep = "magic";
  /** Header bytes to collect before the step is complete, or body bytes that are still to come. */
  #needBytes = 4;
  /** How many bytes of the stream were read. */
  #offset = 0;
  #hasFrames = false;
  #header: ZstdFrameHeader | undefined;
  #isLastBlock = false;
  #blocks = 0;
  #emptyBlocks = 0;
  #minContentBytes = 0;
  #maxContentBytes = 0;

  constructor(handler: ZstdFrameHandler) {
    this.#handler = handler;
  }

  write(chunk: Uint8Array): void {
    let position = 0;
    /** Where data that the handler has not seen yet begins in this chunk. */
    let dataStart = 0;
    const flush = (end: number): void => {
      if (end > dataStart) this.#handler.data?.(chunk.subarray(dataStart, end));
      dataStart = end;
    };
    while (position < chunk.length) {
      if (this.#step === "body" || this.#step === "checksum" || this.#step === "skip") {
        const taken = Math.min(this.#needBytes, chunk.length - position);
        this.#needBytes -= taken;
        this.#offset += taken;
        position += taken;
        if (this.#needBytes === 0 && this.#endBody(this.#step)) flush(position);
        continue;
      }

      const heldBytes = this.#scratchBytes;
      const taken = Math.min(this.#needBytes - heldBytes, chunk.length - position);
      this.#scratch.set(chunk.subarray(position, position + taken), heldBytes);
      this.#scratchBytes += taken;
      this.#offset += taken;
      position += taken;
      if (this.#scratchBytes < this.#needBytes) continue;

      switch (this.#step) {
        case "magic":
          if (!this.#startsSkippable()) {
            // Whether these bytes are data was unknown when the earlier chunk ended.
            const held = Buffer.from(this.#scratch.subarray(0, heldBytes));
            if (heldBytes > 0) this.#handler.data?.(held);
            dataStart = position - taken;
          }
          break;
        case "skippableSize":
          this.#startSkippable();
          break;
        case "descriptor":
          this.#needBytes += this.#headerFieldBytes();
          this.#step = "header";
          if (this.#needBytes === this.#scratchBytes) this.#startFrame();
          break;
        case "header":
          this.#startFrame();
          break;
        case "blockHeader":
          if (this.#startBlock()) flush(position);
          break;
      }
    }
    if (this.#header !== undefined || this.#step === "descriptor" || this.#step === "header") {
      flush(chunk.length);
    }
  }

  end(): void {
    if (this.#step === "magic" && this.#scratchBytes === 0 && this.#hasFrames) return;
    const where = this.#hasFrames ? "inside a frame" : "before its first frame";
    throw new CacheError("TRUNCATED", `The zstd data ends ${where}, after ${this.#offset} bytes`);
  }

  #expect(step: HeaderStep | BodyStep, needBytes: number): void {
    this.#step = step;
    this.#needBytes = needBytes;
    this.#scratchBytes = 0;
  }

  /** Looks at a magic number: true for that of a skippable frame. */
  #startsSkippable(): boolean {
    const magic = this.#scratch.readUInt32LE(0);
    const isSkippable = (magic & 0xffff_fff0) >>> 0 === SKIPPABLE_MAGIC;
    if (magic !== ZSTD_MAGIC && !isSkippable) throw this.#corrupt("no zstd frame begins here");
    this.#hasFrames = true;
    this.#step = isSkippable ? "skippableSize" : "descriptor";
    this.#needBytes = isSkippable ? 8 : 5;
    return isSkippable;
  }

  #startSkippable(): void {
    const sizeBytes = this.#scratch.readUInt32LE(4);
    this.#handler.skippable?.(sizeBytes);
    if (sizeBytes === 0) this.#expect("magic", 4);
    else this.#expect("skip", sizeBytes);
  }

  /** How many header bytes follow the descriptor. */
  #headerFieldBytes(): number {
    const descriptor = this.#scratch.readUInt8(4);
    if ((descriptor & 0x08) !== 0) throw this.#corrupt("a frame header has its reserved bit set");
    const windowFieldBytes = (descriptor & 0x20) === 0 ? 1 : 0;
    return windowFieldBytes + dictionaryIdBytes(descriptor) + contentSizeBytes(descriptor);
  }

  #startFrame(): void {
    const header = parseFrameHeader(this.#scratch);
    this.#header = header;
    this.#blocks = 0;
    this.#emptyBlocks = 0;
    this.#minContentBytes = 0;
    this.#maxContentBytes = 0;
    this.#expect("blockHeader", 3);
    this.#handler.frame?.(header);
  }

  /** Reads a block header; true when the frame ends with it, because nothing follows. */
  #startBlock(): boolean {
    const blockHeader = this.#scratch.readUIntLE(0, 3);
    const type = (blockHeader >> 1) & 3;
    const sizeBytes = blockHeader >> 3;
    const maxBlockBytes = Math.min(this.#requireHeader().windowBytes, MAX_BLOCK_BYTES);
    if (type === RESERVED_BLOCK) throw this.#corrupt("a block has the reserved type");
    if (sizeBytes > maxBlockBytes) {
      throw this.#corrupt(`a block of ${sizeBytes} bytes exceeds ${maxBlockBytes}`);
    }
    const isCompressed = type !== RAW_BLOCK && type !== RLE_BLOCK;
    if (isCompressed && sizeBytes < MIN_COMPRESSED_BLOCK_BYTES) {
      throw this.#corrupt(`a compressed block has only ${sizeBytes} bytes`);
    }
    this.#isLastBlock = (blockHeader & 1) !== 0;
    this.#blocks += 1;
    if (sizeBytes === 0 && !this.#isLastBlock) this.#emptyBlocks += 1;
    this.#minContentBytes += isCompressed ? 0 : sizeBytes;
    this.#maxContentBytes += isCompressed ? maxBlockBytes : sizeBytes;
    this.#expect("body", type === RLE_BLOCK ? 1 : sizeBytes);
    return this.#needBytes === 0 && this.#endBody("body");
  }

  /** Goes on to what follows a body; true at the end of a frame that holds data. */
  #endBody(step: BodyStep): boolean {
    if (step === "skip") {
      this.#expect("magic", 4);
      return false;
    }
    const header = this.#requireHeader();
    if (step === "body" && !this.#isLastBlock) {
      this.#expect("blockHeader", 3);
      return false;
    }
    if (step === "body" && header.hasChecksum) {
      this.#expect("checksum", 4);
      return false;
    }
    this.#endFrame(header);
    return true;
  }

  #endFrame(header: ZstdFrameHeader): void {
    const contentBytes = header.contentBytes ?? this.#maxContentBytes;
    if (contentBytes < this.#minContentBytes || contentBytes > this.#maxContentBytes) {
      throw this.#corrupt(
        `a frame states ${contentBytes} bytes of content, its blocks hold ${this.#minContentBytes} to ${this.#maxContentBytes}`,
      );
    }
    this.#header = undefined;
    this.#expect("magic", 4);
    this.#handler.frameEnd?.({
      header,
      blocks: this.#blocks,
      emptyBlocks: this.#emptyBlocks,
      maxContentBytes: contentBytes,
    });
  }

  #requireHeader(): ZstdFrameHeader {
    if (this.#header === undefined) throw new Error("a block outside a frame");
    return this.#header;
  }

  #corrupt(problem: string): CacheError {
    return new CacheError(
      "CORRUPT",
      `Not a valid zstd stream: ${problem} (before byte ${this.#offset})`,
    );
  }
}

function dictionaryIdBytes(descriptor: number): number {
  return DICTIONARY_ID_BYTES[descriptor & 3] ?? 0;
}

function contentSizeBytes(descriptor: number): number {
  const flag = descriptor >> 6;
  if (flag === 0) return (descriptor & 0x20) === 0 ? 0 : 1;
  return 2 ** flag;
}

/** Reads a complete frame header that starts with its magic number. */
function parseFrameHeader(bytes: Buffer): ZstdFrameHeader {
  const descriptor = bytes.readUInt8(4);
  let offset = 5;
  let windowBytes: number | undefined;
  if ((descriptor & 0x20) === 0) {
    const window = bytes.readUInt8(offset);
    windowBytes = 2 ** (10 + (window >> 3)) * (1 + (window & 7) / 8);
    offset += 1;
  }
  const idBytes = dictionaryIdBytes(descriptor);
  const dictionaryId = idBytes === 0 ? 0 : bytes.readUIntLE(offset, idBytes);
  offset += idBytes;
  const contentBytes = readContentSize(bytes, offset, contentSizeBytes(descriptor));
  return {
    windowBytes: windowBytes ?? contentBytes ?? 0,
    contentBytes,
    dictionaryId,
    hasChecksum: (descriptor & 0x04) !== 0,
    hasUnusedBit: (descriptor & 0x10) !== 0,
  };
}

function readContentSize(bytes: Buffer, offset: number, sizeBytes: number): number | undefined {
  switch (sizeBytes) {
    case 0:
      return undefined;
    case 2:
      return bytes.readUInt16LE(offset) + 256;
    case 8:
      return Number(bytes.readBigUInt64LE(offset));
    default:
      return bytes.readUIntLE(offset, sizeBytes);
  }
}
