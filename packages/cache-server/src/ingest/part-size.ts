import { NAR_ENCODING } from "@glorious/nix-store";

/** A client keeps whole parts in memory. */
const MAX_PART_BYTES = 256 * 2 ** 20;

/** Whether parts may encode so many bytes of a NAR: whole frames of the encoder. */
export function isPartSize(narBytes: number): boolean {
  return narBytes > 0 && narBytes <= MAX_PART_BYTES && narBytes % NAR_ENCODING.frameBytes === 0;
}

/** What to do about a size that is none. */
export const PART_SIZE_HINT: string = `Write a multiple of ${NAR_ENCODING.frameBytes} bytes, at most ${MAX_PART_BYTES}.`;
