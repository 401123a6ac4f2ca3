import type { PathInfo } from "@glorious/cache-client";

/** Which paths a view must still have although it is being collected: those used lately, and those under a pin. */
export class KeptPaths {
  readonly #retentionMs: number;
  readonly #known = new Map<string, PathInfo>();
  readonly #usedAtMs = new Map<string, number>();
  readonly #pins = new Map<string, PathInfo>();

  /** @param retentionMs What was used within this time stays. */
  constructor(retentionMs: number) {
    this.#retentionMs = retentionMs;
  }

  /** All paths that a push was acknowledged of, collected or not. */
  get known(): readonly PathInfo[] {
    return [...this.#known.values()];
  }

  /** The push of a closure was acknowledged. It counts as used when that push began: the server cannot be earlier. */
  notePush(paths: readonly PathInfo[], beganAtMs: number): void {
    for (const path of paths) {
      const { hash } = path.storePath;
      this.#known.set(hash, path);
      this.#usedAtMs.set(hash, Math.max(beganAtMs, this.#usedAtMs.get(hash) ?? 0));
    }
  }

  /** Moves a pin. Until that is acknowledged, neither the old path nor the new one is known to be under it. */
  async pin(name: string, path: PathInfo, work: () => Promise<unknown>): Promise<void> {
    this.#pins.delete(name);
    await work();
    this.#pins.set(name, path);
  }

  /** Uses that the server had not written yet went with it. Pins stay. */
  noteCrash(): void {
    this.#usedAtMs.clear();
  }

  /** Until when the path must be there; `Infinity` under a pin, 0 when it may go. */
  keptUntilMs(storePathHash: string): number {
    // A pin keeps all that its path refers to.
    if (this.#closure(this.#pins.values()).has(storePathHash)) return Number.POSITIVE_INFINITY;
    const usedAtMs = this.#usedAtMs.get(storePathHash);
    return usedAtMs === undefined ? 0 : usedAtMs + this.#retentionMs;
  }

  /** The path with all it refers to, references first. */
  closureOf(top: PathInfo): PathInfo[] {
    return [...this.#closure([top]).values()];
  }

  #closure(tops: Iterable<PathInfo>): ReadonlyMap<string, PathInfo> {
    const closure = new Map<string, PathInfo>();
    const visit = (path: PathInfo): void => {
      const { hash } = path.storePath;
      if (closure.has(hash)) return;
      for (const reference of path.references) {
        const found = this.#known.get(reference.slice(0, 32));
        if (found !== undefined) visit(found);
      }
      closure.set(hash, path);
    };
    for (const top of tops) visit(top);
    return closure;
  }
}
