const SLOTS = 4096;

/** Remembers how the latest streams ended, because frames for them may still be on their way. */
export class ClosedStreams {
  /** Ids; negative for streams that we reset, whose late frames are to be ignored. */
  #ids: Int32Array = new Int32Array(64);
  #next = 0;

  add(streamId: number, isResetByUs: boolean): void {
    if (this.#next === this.#ids.length && this.#ids.length < SLOTS) {
      const larger = new Int32Array(this.#ids.length * 4);
      larger.set(this.#ids);
      this.#ids = larger;
    }
    if (this.#next === this.#ids.length) this.#next = 0;
    this.#ids[this.#next++] = isResetByUs ? -streamId : streamId;
  }

  wasResetByUs(streamId: number): boolean {
    return this.#ids.includes(-streamId);
  }

  has(streamId: number): boolean {
    return this.#ids.includes(streamId) || this.wasResetByUs(streamId);
  }
}
