/** Bytes that a non-negative safe integer takes as a varint. */
export function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) size++;
  return size;
}

/** Bytes that a field of `size` bytes takes, its one-byte tag and its length included. */
export function bytesFieldSize(size: number): number {
  return 1 + varintSize(size) + size;
}

/** Writes a protobuf message whose size was computed before. */
export class WireWriter {
  readonly bytes: Buffer;
  /** Where the next byte goes. */
  offset = 0;

  constructor(size: number) {
    this.bytes = Buffer.allocUnsafe(size);
  }

  /** A one-byte tag. */
  tag(tag: number): void {
    this.bytes[this.offset++] = tag;
  }

  /** A non-negative safe integer. */
  varint(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.bytes[this.offset++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.bytes[this.offset++] = rest;
  }

  /** Bytes as they are. */
  copy(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.offset);
    this.offset += bytes.length;
  }

  /** A field with a one-byte tag, its length and its bytes. */
  bytesField(tag: number, bytes: Uint8Array): void {
    this.tag(tag);
    this.varint(bytes.length);
    this.copy(bytes);
  }
}
