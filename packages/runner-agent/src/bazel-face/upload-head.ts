const PREFIX_BYTES = 5;
/** `WriteRequest.resource_name`, which clients write first. */
const NAME_TAG = 0x0a;
/** Names are shorter; what is longer is none. */
const MAX_HEAD_BYTES = 8192;

/** Finds out which blob an upload is about, from its bytes as they pass. */
export class UploadHead {
  #bytes: Buffer = Buffer.alloc(0);
  #name: string | undefined;

  /** `undefined` until all of it has come; empty when there is none. */
  get resourceName(): string | undefined {
    return this.#name;
  }

  add(bytes: Uint8Array): void {
    if (this.#name !== undefined) return;
    this.#bytes = Buffer.concat([this.#bytes, bytes.subarray(0, MAX_HEAD_BYTES)]);
    this.#name = readName(this.#bytes);
    if (this.#name !== undefined || this.#bytes.length >= MAX_HEAD_BYTES) {
      this.#name ??= "";
      this.#bytes = Buffer.alloc(0);
    }
  }
}

function readName(bytes: Buffer): string | undefined {
  let at = PREFIX_BYTES;
  if (bytes.length <= at) return undefined;
  if (bytes[0] !== 0 || bytes[at] !== NAME_TAG) return "";
  let length = 0;
  for (let shift = 1; ; shift *= 128) {
    at += 1;
    const byte = bytes[at];
    if (byte === undefined) return undefined;
    length += (byte & 0x7f) * shift;
    if (byte < 0x80) break;
    if (length > MAX_HEAD_BYTES) return "";
  }
  const end = at + 1 + length;
  return bytes.length < end ? undefined : bytes.toString("utf8", at + 1, end);
}
