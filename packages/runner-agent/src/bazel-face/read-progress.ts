const PREFIX_BYTES = 5;
/** `ReadResponse.data`, its only field. */
const DATA_TAG = 0x52;

type Place =
  /** So many bytes of a message's prefix were seen. */
  | { readonly kind: "prefix"; readonly seen: number }
  | { readonly kind: "tag" }
  | { readonly kind: "length"; readonly value: number; readonly shift: number }
  | { readonly kind: "data" };

/**
 * How far the answer to a read has come, by its bytes as they pass: how much of the blob it has carried, and whether
 * another answer can go on where it stops.
 */
export class ReadProgress {
  /** Of the blob. */
  dataBytes = 0;
  /** What the message that was begun still owes, when it is broken off within its data. */
  missingBytes = 0;
  #place: Place = { kind: "prefix", seen: 0 };
  #messageBytes = 0;
  #isReadable = true;

  /** Whether the rest of the blob may follow: first {@link missingBytes} of it as they are, then whole messages. */
  get isResumable(): boolean {
    if (!this.#isReadable) return false;
    return this.#place.kind === "data" || (this.#place.kind === "prefix" && this.#place.seen === 0);
  }

  add(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length && this.#isReadable) {
      if (this.#place.kind === "data") {
        const taken = Math.min(this.missingBytes, bytes.length - at);
        this.dataBytes += taken;
        this.missingBytes -= taken;
        at += taken;
        if (this.missingBytes === 0) this.#place = { kind: "prefix", seen: 0 };
      } else {
        this.#step(bytes[at] as number);
        at += 1;
      }
    }
  }

  #step(byte: number): void {
    const place = this.#place;
    if (place.kind === "prefix") {
      if (place.seen === 0) {
        this.#messageBytes = 0;
        // Compressed messages cannot be looked into.
        this.#isReadable = byte === 0;
      } else {
        this.#messageBytes = this.#messageBytes * 256 + byte;
      }
      const seen = place.seen + 1;
      if (seen < PREFIX_BYTES) this.#place = { kind: "prefix", seen };
      else this.#place = this.#messageBytes === 0 ? { kind: "prefix", seen: 0 } : { kind: "tag" };
    } else if (place.kind === "tag") {
      this.#messageBytes -= 1;
      this.#isReadable = byte === DATA_TAG;
      this.#place = { kind: "length", value: 0, shift: 1 };
    } else if (place.kind === "length") {
      this.#messageBytes -= 1;
      const value = place.value + (byte & 0x7f) * place.shift;
      if (byte >= 0x80) {
        this.#place = { kind: "length", value, shift: place.shift * 128 };
      } else {
        // Another field after the data would be unknown to us.
        this.#isReadable = value === this.#messageBytes;
        this.missingBytes = value;
        this.#place = value === 0 ? { kind: "prefix", seen: 0 } : { kind: "data" };
      }
    }
  }
}
