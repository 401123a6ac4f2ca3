import { encodeNarFrames, type EncodeNarOptions } from "./nar-encoder.ts";
import { NAR_ENCODING } from "./nar-encoding.ts";

/**
 * How a NAR is cut for an upload in parts: part n is the stored encoding of the NAR's bytes from
 * `n * partBytes` to `(n + 1) * partBytes`, so it is a whole number of frames.
 */
export interface NarParts {
  /** Of the NAR, at least 1. */
  readonly narSize: number;
  /** A multiple of {@link NAR_ENCODING.frameBytes}. */
  readonly partBytes: number;
}

/** One part as {@link encodeNarParts} makes it. */
export interface EncodedNarPart {
  readonly number: number;
  /** Its bytes, in pieces. */
  readonly pieces: readonly Buffer[];
}

/** How many parts a NAR has; their numbers start at 0. */
export function countNarParts({ narSize, partBytes }: NarParts): number {
  return Math.ceil(narSize / partBytes);
}

/** The NAR bytes that a part encodes; 0 for a number that no part has. */
export function narPartSize({ narSize, partBytes }: NarParts, number: number): number {
  if (!Number.isSafeInteger(number) || number < 0) return 0;
  return Math.max(0, Math.min(partBytes, narSize - number * partBytes));
}

/**
 * Encodes the wanted parts of a NAR, in order of their numbers. All parts after one another are exactly
 * what `encodeNar` makes of the NAR, and a part is the same whichever others are wanted.
 *
 * The NAR is always read to its end, so a source that checks it says so before the last wanted part is
 * yielded. Memory is the encoder's and one encoded part.
 *
 * @throws {RangeError} when a part would not be a whole number of frames.
 * @throws whatever `encodeNar` throws.
 */
export async function* encodeNarParts(
  source: AsyncIterable<Uint8Array>,
  parts: NarParts,
  options: EncodeNarOptions & { readonly isWanted: (number: number) => boolean },
): AsyncGenerator<EncodedNarPart, void, undefined> {
  const { partBytes } = parts;
  if (partBytes <= 0 || partBytes % NAR_ENCODING.frameBytes !== 0) {
    throw new RangeError(
      `partBytes must be a multiple of ${NAR_ENCODING.frameBytes}, not ${partBytes}`,
    );
  }
  const numbers = Array.from({ length: countNarParts(parts) }, (_, number) => number);
  const wanted = numbers.filter((number) => options.isWanted(number)).values();
  let part = wanted.next().value;
  const wantedBytes = takeParts(source, partBytes, options.isWanted);
  if (part === undefined) {
    for await (const _ of wantedBytes);
    return;
  }
  // Whole parts left out leave frames where they were: only the last part may end within one.
  let frames: (readonly Buffer[])[] = [];
  for await (const frame of encodeNarFrames(wantedBytes, options)) {
    frames.push(frame);
    if (part === undefined || frames.length < countFrames(parts, part)) continue;
    yield { number: part, pieces: frames.flat() };
    frames = [];
    part = wanted.next().value;
  }
}

function countFrames(parts: NarParts, number: number): number {
  return Math.ceil(narPartSize(parts, number) / NAR_ENCODING.frameBytes);
}

/** The bytes of the wanted parts; the others are read and left out. */
async function* takeParts(
  source: AsyncIterable<Uint8Array>,
  partBytes: number,
  isWanted: (number: number) => boolean,
): AsyncGenerator<Uint8Array, void, undefined> {
  let position = 0;
  for await (const chunk of source) {
    for (let offset = 0; offset < chunk.length;) {
      const sizeBytes = Math.min(chunk.length - offset, partBytes - (position % partBytes));
      if (isWanted(Math.floor(position / partBytes)))
        yield chunk.subarray(offset, offset + sizeBytes);
      offset += sizeBytes;
      position += sizeBytes;
    }
  }
}
