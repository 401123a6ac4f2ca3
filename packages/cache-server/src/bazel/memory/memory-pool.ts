/** What one user of a {@link MemoryPool} asks it, and tells it. Bytes are what the user reckons, not what the process has. */
export interface MemoryShare {
  /** Whether there are so many bytes that nobody has. */
  hasRoom(sizeBytes: number): boolean;
  /** The same, after others who have more gave some of theirs; when it says no, the user has to give of its own. */
  makeRoom(sizeBytes: number): boolean;
  /** Notes that the user has so many more bytes; with a negative number that it gave them back. */
  take(sizeBytes: number): void;
}

/** One who remembers what it could look up again. */
export interface MemoryUser {
  /** When it was asked for something last, in milliseconds. */
  readonly usedAtMs: number;
  /** Forgets about so many bytes, and gives them back by `take`; what it needs as yet, it keeps. */
  release(sizeBytes: number): void;
}

/** Of all, what a user gives at once, so that not every little wish looks for one who gives. */
const GIVEN_AT_ONCE = 1 / 64;
/** A user who found that it has to give of its own looks around again after so many wishes. */
const WISHES_BETWEEN_LOOKS = 64;
/** Who was idle for so long counts as if it had twice as much. */
const IDLE_MS = 60_000;

/**
 * Memory that the caches of all tenants share. Each takes what it needs as long as there is some; then those with the
 * most give first, those who were idle longest before others: a flood pushes out what the flood itself brought, and a
 * small set in use stays.
 */
export class MemoryPool {
  readonly totalBytes: number;
  #usedBytes = 0;
  readonly #shares: Set<Share> = new Set();

  constructor(totalBytes: number) {
    this.totalBytes = totalBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Until the share is disposed of, the user may be told to release memory at any time that another asks. */
  join(user: MemoryUser): MemoryShare & Disposable {
    const share = new Share(user, {
      hasRoom: (sizeBytes) => this.#usedBytes + sizeBytes <= this.totalBytes,
      makeRoom: (sizeBytes) => this.#makeRoom(share, sizeBytes),
      onTaken: (sizeBytes) => (this.#usedBytes += sizeBytes),
      onLeave: () => this.#shares.delete(share),
    });
    this.#shares.add(share);
    return share;
  }

  #makeRoom(asker: Share, sizeBytes: number): boolean {
    const nowMs = asker.user.usedAtMs;
    const unable = new Set<Share>();
    for (;;) {
      let giver = asker;
      for (const share of this.#shares) {
        if (!unable.has(share) && weightOf(share, nowMs) > weightOf(giver, nowMs)) giver = share;
      }
      if (giver === asker) return false;
      const before = giver.bytes;
      giver.user.release(
        Math.max(sizeBytes, Math.min(before / 4, this.totalBytes * GIVEN_AT_ONCE)),
      );
      if (giver.bytes >= before) unable.add(giver);
      if (this.#usedBytes + sizeBytes <= this.totalBytes) return true;
    }
  }
}

function weightOf({ bytes, user }: Share, nowMs: number): number {
  return bytes * (1 + Math.max(0, nowMs - user.usedAtMs) / IDLE_MS);
}

interface PoolOfShare {
  hasRoom(sizeBytes: number): boolean;
  makeRoom(sizeBytes: number): boolean;
  onTaken(sizeBytes: number): void;
  onLeave(): void;
}

class Share implements MemoryShare, Disposable {
  readonly user: MemoryUser;
  bytes = 0;
  readonly #pool: PoolOfShare;
  #wishesUntilLook = 0;

  constructor(user: MemoryUser, pool: PoolOfShare) {
    this.user = user;
    this.#pool = pool;
  }

  hasRoom(sizeBytes: number): boolean {
    return this.#pool.hasRoom(sizeBytes);
  }

  makeRoom(sizeBytes: number): boolean {
    if (this.#pool.hasRoom(sizeBytes)) return true;
    if (this.#wishesUntilLook > 0) {
      this.#wishesUntilLook -= 1;
      return false;
    }
    if (this.#pool.makeRoom(sizeBytes)) return true;
    this.#wishesUntilLook = WISHES_BETWEEN_LOOKS;
    return false;
  }

  take(sizeBytes: number): void {
    this.bytes += sizeBytes;
    this.#pool.onTaken(sizeBytes);
  }

  [Symbol.dispose](): void {
    this.take(-this.bytes);
    this.#pool.onLeave();
  }
}
