/** How {@link zstdFrame} encodes; by default as a plain encoder would. */
export interface ZstdFrameOptions {
  /** A window of `2 ** windowLog` bytes is asked for. */
  readonly windowLog?: number;
  readonly hasContentSize?: boolean;
  readonly dictionaryId?: number;
  readonly hasUnusedBit?: boolean;
  /** How many bytes each raw block holds. */
  readonly blockBytes?: number;
  /** Empty blocks before the last one. */
  readonly emptyBlocks?: number;
}

const MAGIC = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);
const RAW = 0;
const RLE = 1;

/** A zstd frame by hand, of raw blocks: valid, and as odd as wanted. */
export function zstdFrame(content: Uint8Array, options: ZstdFrameOptions = {}): Buffer {
  const { hasContentSize = true, blockBytes = 128 * 1024, emptyBlocks = 0 } = options;
  const blocks: Buffer[] = Array.from({ length: emptyBlocks }, () => blockHeader(RAW, 0, false));
  for (let start = 0; start < content.length; start += blockBytes) {
    const piece = content.subarray(start, start + blockBytes);
    const isLast = start + blockBytes >= content.length;
    blocks.push(blockHeader(RAW, piece.length, isLast), Buffer.from(piece));
  }
  return Buffer.concat([
    frameHeader(hasContentSize ? content.length : undefined, options),
    ...blocks,
  ]);
}

/** A frame of zeros, four bytes for every 128 KiB. */
export function zstdZeros(blocks: number): Buffer {
  return Buffer.concat([
    frameHeader(undefined, {}),
    ...Array.from({ length: blocks }, (_, index) =>
      Buffer.concat([blockHeader(RLE, 128 * 1024, index === blocks - 1), Buffer.from([0])]),
    ),
  ]);
}

/** A frame that decoders pass over, with whatever is in it. */
export function skippableFrame(payload: Uint8Array): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(0x184d2a50, 0);
  header.writeUInt32LE(payload.length, 4);
  return Buffer.concat([header, payload]);
}

function frameHeader(
  contentBytes: number | undefined,
  { windowLog = 17, dictionaryId, hasUnusedBit = false }: ZstdFrameOptions,
): Buffer {
  const descriptor =
    (contentBytes === undefined ? 0 : 0b10_000000) |
    (hasUnusedBit ? 0b10000 : 0) |
    (dictionaryId === undefined ? 0 : 1);
  const size = Buffer.alloc(contentBytes === undefined ? 0 : 4);
  if (contentBytes !== undefined) size.writeUInt32LE(contentBytes);
  return Buffer.concat([
    MAGIC,
    Buffer.from([descriptor, (windowLog - 10) << 3]),
    Buffer.from(dictionaryId === undefined ? [] : [dictionaryId]),
    size,
  ]);
}

function blockHeader(type: number, sizeBytes: number, isLast: boolean): Buffer {
  const header = Buffer.alloc(3);
  header.writeUIntLE(sizeBytes * 8 + type * 2 + Number(isLast), 0, 3);
  return header;
}
