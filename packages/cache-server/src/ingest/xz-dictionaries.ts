import { CacheError } from "@glorious/core";

/** The largest dictionary that is decoded. */
const MAX_DICTIONARY_BYTES = 64 * 2 ** 20;
const STREAM_HEADER_BYTES = 12;
/** Enough of a block's header to tell its dictionary, when it has the plain form. */
const BLOCK_START_BYTES = 5;
/** The most that a chunk of LZMA2 has before its data. */
const MAX_CHUNK_HEADER_BYTES = 6;

/**
 * The dictionary that an xz stream's first block names, in bytes; the largest that is decoded when there is
 * no telling.
 *
 * @see https://tukaani.org/xz/xz-file-format.txt, 2.1, 3.1 and 5.3.1.
 */
export function readFirstXzDictionary(head: Uint8Array): number {
  if (head[0] !== 0xfd) return MAX_DICTIONARY_BYTES;
  return readDictionary(head.subarray(STREAM_HEADER_BYTES));
}

function readDictionary(block: Uint8Array): number {
  const flags = block[1] ?? 0xff;
  // One filter, LZMA2, and no sizes before it: what every encoder that works on a stream writes.
  const isPlain = flags === 0 && block[2] === 0x21 && block[3] === 1;
  const bits = block[4] ?? 40;
  if (!isPlain || bits > 40) return MAX_DICTIONARY_BYTES;
  return Math.min((2 | (bits & 1)) * 2 ** (Math.floor(bits / 2) + 11), MAX_DICTIONARY_BYTES);
}

/**
 * Passes an xz stream on as long as no block of it names a dictionary beyond `maxBytes`, the memory there is for
 * it. Every encoder gives all blocks the same. Damage is left for the decoder to find.
 *
 * @throws {CacheError} `UNSUPPORTED` before the decoder sees the block.
 */
export async function* limitXzDictionaries(
  source: AsyncIterable<Buffer>,
  maxBytes: number,
): AsyncGenerator<Buffer> {
  // Nothing larger is decoded, so there is nothing to look for.
  if (maxBytes >= MAX_DICTIONARY_BYTES) {
    yield* source;
    return;
  }
  const walker = new BlockWalker(maxBytes);
  for await (const chunk of source) {
    walker.write(chunk);
    yield chunk;
  }
}

type State = "stream" | "block" | "chunk" | "over";

/** Walks the headers of blocks and of the LZMA2 chunks in them, whose sizes lead from one to the next. */
class BlockWalker {
  readonly #maxBytes: number;
  readonly #header = Buffer.alloc(STREAM_HEADER_BYTES);
  #headerBytes = 0;
  #skipBytes = 0;
  #state: State = "stream";
  #checkBytes = 0;
  /** Since the end of the block's header. */
  #dataBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  write(chunk: Uint8Array): void {
    for (let offset = 0; offset < chunk.length && this.#state !== "over";) {
      if (this.#skipBytes > 0) {
        const skipped = Math.min(this.#skipBytes, chunk.length - offset);
        this.#skipBytes -= skipped;
        offset += skipped;
        continue;
      }
      this.#header[this.#headerBytes] = chunk[offset] ?? 0;
      this.#headerBytes += 1;
      offset += 1;
      if (this.#headerBytes < this.#wantedBytes()) continue;
      this.#take();
      this.#headerBytes = 0;
    }
  }

  /** How long the header is, as far as it is known. */
  #wantedBytes(): number {
    const first = this.#header[0] ?? 0;
    if (this.#state === "stream") return STREAM_HEADER_BYTES;
    if (this.#state === "block") return first === 0 ? 1 : BLOCK_START_BYTES;
    if (first === 0) return 1;
    if (first < 0x80) return 3;
    return first >= 0xc0 ? MAX_CHUNK_HEADER_BYTES : MAX_CHUNK_HEADER_BYTES - 1;
  }

  #take(): void {
    const header = this.#header.subarray(0, this.#headerBytes);
    const first = header[0] ?? 0;
    if (this.#state === "stream") {
      const check = (header[7] ?? 0) & 0x0f;
      // 4, 8, 16, 32 and 64 bytes for three kinds each.
      this.#checkBytes = check === 0 ? 0 : 4 * 2 ** Math.floor((check - 1) / 3);
      this.#state = "block";
    } else if (this.#state === "block") {
      this.#takeBlock(header);
    } else if (first === 0) {
      const padding = (4 - ((this.#dataBytes + 1) % 4)) % 4;
      this.#skipBytes = padding + this.#checkBytes;
      this.#state = "block";
    } else {
      const at = first < 0x80 ? 1 : 3;
      this.#skipBytes = header.readUInt16BE(at) + 1;
      this.#dataBytes += header.length + this.#skipBytes;
    }
  }

  #takeBlock(header: Buffer): void {
    const first = header[0] ?? 0;
    // The index; no second stream is decoded after it.
    if (first === 0) {
      this.#state = "over";
      return;
    }
    if (readDictionary(header) > this.#maxBytes) {
      throw new CacheError(
        "UNSUPPORTED",
        "A later block of the xz stream needs a larger dictionary",
        {
          hint: "Compress it with the same settings throughout, or copy with ?compression=zstd at the end of the cache's URL.",
        },
      );
    }
    this.#skipBytes = (first + 1) * 4 - header.length;
    this.#dataBytes = 0;
    this.#state = "chunk";
  }
}
