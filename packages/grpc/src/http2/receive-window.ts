import { ERROR, Http2ConnectionError } from "./protocol.ts";

/** What the other end may send on all streams together, and when it may send more. */
export class ReceiveWindow {
  readonly #fullBytes: number;
  #leftBytes: number;
  /** Arrived and not given back; of these, what the layer above holds back. */
  #unreturnedBytes = 0;
  #withheldBytes = 0;

  constructor(fullBytes: number) {
    this.#fullBytes = fullBytes;
    this.#leftBytes = fullBytes;
  }

  arrive(bytes: number): void {
    this.#leftBytes -= bytes;
    this.#unreturnedBytes += bytes;
    if (this.#leftBytes >= 0) return;
    throw new Http2ConnectionError(ERROR.FLOW_CONTROL_ERROR, "DATA beyond the connection's window");
  }

  /** Holds bytes back that were delivered; negative, lets them go. */
  withhold(bytes: number): void {
    this.#withheldBytes += bytes;
  }

  /** By how much the window is to be opened now: 0 until it is worth a frame. */
  takeUpdate(): number {
    const bytes = this.#unreturnedBytes - this.#withheldBytes;
    if (bytes * 2 < this.#fullBytes) return 0;
    this.#leftBytes += bytes;
    this.#unreturnedBytes -= bytes;
    return bytes;
  }
}
