/** The value of each lowercase hexadecimal digit by its character code, -1 for everything else. */
const DIGITS: Int8Array = new Int8Array(256).fill(-1);
for (let digit = 0; digit < 16; digit += 1) DIGITS[digit.toString(16).charCodeAt(0)] = digit;

/**
 * A SHA-256 in the form that look-ups take: 32 bytes, and the same memory as eight words.
 *
 * Look-ups that answer at once only read it, so one key may be filled again and again; what is given to a
 * promise must stay as it is.
 */
export class Sha256Key {
  readonly words: Int32Array;
  readonly bytes: Uint8Array;

  constructor() {
    this.words = new Int32Array(8);
    this.bytes = new Uint8Array(this.words.buffer);
  }

  /** The key of 64 lowercase hexadecimal digits; `undefined` when the text is anything else. */
  static fromHex(text: string): Sha256Key | undefined {
    if (text.length !== 64) return undefined;
    const key = new Sha256Key();
    for (let at = 0; at < 32; at += 1) {
      const high = DIGITS[text.charCodeAt(2 * at)] ?? -1;
      const low = DIGITS[text.charCodeAt(2 * at + 1)] ?? -1;
      if ((high | low) < 0) return undefined;
      key.bytes[at] = (high << 4) | low;
    }
    return key;
  }

  /** A key of its own for 32 bytes that may change or move. */
  static fromBytes(bytes: Uint8Array, offset = 0): Sha256Key {
    const key = new Sha256Key();
    key.readBytes(bytes, offset);
    return key;
  }

  /** Fills the key from 64 lowercase hexadecimal digits in ASCII; `false` when they are anything else. */
  readHex(source: Uint8Array, offset: number): boolean {
    const { bytes } = this;
    let isWrong = source.length - offset < 64 ? -1 : 0;
    for (let at = 0; at < 32; at += 1) {
      const from = offset + 2 * at;
      const digits =
        ((DIGITS[source[from] as number] as number) << 4) |
        (DIGITS[source[from + 1] as number] as number);
      isWrong |= digits;
      bytes[at] = digits;
    }
    return isWrong >= 0;
  }

  /** Fills the key from 32 bytes. */
  readBytes(source: Uint8Array, offset: number): void {
    const { bytes } = this;
    for (let at = 0; at < 32; at += 1) bytes[at] = source[offset + at] as number;
  }

  toHex(): string {
    return Buffer.from(this.bytes.buffer).toString("hex");
  }
}
