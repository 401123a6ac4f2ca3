/** So many at once, and so many a second for ever. */
export class RateBudget {
  readonly #burst: number;
  readonly #perMs: number;
  #left: number;
  #updatedMs: number;

  constructor(burst: number, perSecond: number, nowMs: number) {
    this.#burst = burst;
    this.#perMs = perSecond / 1000;
    this.#left = burst;
    this.#updatedMs = nowMs;
  }

  /** Takes one and tells whether there was one. */
  take(nowMs: number): boolean {
    const earned = Math.max(0, nowMs - this.#updatedMs) * this.#perMs;
    this.#left = Math.min(this.#burst, this.#left + earned);
    this.#updatedMs = nowMs;
    if (this.#left < 1) return false;
    this.#left -= 1;
    return true;
  }
}
