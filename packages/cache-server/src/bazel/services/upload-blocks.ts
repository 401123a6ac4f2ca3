import { MAX_INLINE_BYTES } from "../store/blob-intake.ts";
import { CHUNK_BYTES, chunkPool } from "./chunk-pool.ts";

interface Block {
  readonly bytes: Buffer;
  filledBytes: number;
  returnedBytes: number;
}

/**
 * The memory of an upload on its way to the disk: copies of what came, side by side in chunks of the pool, which get
 * them back when all of it was written. What came itself holds the bytes of others too, which need their memory back.
 */
export class UploadBlocks {
  readonly #isSmall: boolean;
  readonly #blocks: Map<ArrayBufferLike, Block> = new Map();
  /** The one that the next bytes go to. */
  #last: Block | undefined;

  constructor(sizeBytes: number) {
    this.#isSmall = sizeBytes <= MAX_INLINE_BYTES;
  }

  /** Copies bytes; pieces of their own, or of chunks, to be given back. */
  copy(bytes: Uint8Array): Buffer[] {
    if (this.#isSmall) return [Buffer.from(bytes)];
    const pieces: Buffer[] = [];
    for (let at = 0; at < bytes.length;) {
      const block = (this.#last ??= this.#begin());
      const start = block.filledBytes;
      const end = Math.min(CHUNK_BYTES, start + bytes.length - at);
      block.bytes.set(bytes.subarray(at, at + end - start), start);
      block.filledBytes = end;
      pieces.push(block.bytes.subarray(start, end));
      at += end - start;
      if (end === CHUNK_BYTES) this.#last = undefined;
    }
    return pieces;
  }

  giveBack(piece: Uint8Array): void {
    const block = this.#blocks.get(piece.buffer);
    if (block === undefined) return;
    block.returnedBytes += piece.length;
    if (block !== this.#last) this.#release(block);
  }

  /** Nothing more is copied. */
  end(): void {
    const block = this.#last;
    this.#last = undefined;
    if (block !== undefined) this.#release(block);
  }

  #begin(): Block {
    const block = { bytes: chunkPool.take(), filledBytes: 0, returnedBytes: 0 };
    this.#blocks.set(block.bytes.buffer, block);
    return block;
  }

  #release(block: Block): void {
    if (block.returnedBytes < block.filledBytes) return;
    this.#blocks.delete(block.bytes.buffer);
    chunkPool.give(block.bytes);
  }
}
