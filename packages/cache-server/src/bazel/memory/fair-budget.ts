import type { MemoryLease, MemoryWish } from "@glorious/grpc";

/**
 * Memory that many share, none of whom can keep it from the others.
 *
 * Who has much of it gets more only while there is more left: one user alone may have half of all, a second one a
 * quarter, and so on, so that something is always left for who comes next. All users of one group together may have
 * three times what is left, and a user who has nothing something while an eighth is left. Those who wait come in turns, each in the order in which it asked.
 */
export class FairBudget {
  readonly totalBytes: number;
  #freeBytes: number;
  readonly #groups: Map<string, number> = new Map();
  /** Users who wait, the one whose turn it is first. */
  readonly #waiting: Set<BudgetUser> = new Set();

  constructor(totalBytes: number) {
    this.totalBytes = totalBytes;
    this.#freeBytes = totalBytes;
  }

  get freeBytes(): number {
    return this.#freeBytes;
  }

  /** How many users wait. */
  get waitingUsers(): number {
    return this.#waiting.size;
  }

  /** One more user, such as a connection. */
  openUser(): BudgetUser {
    return new BudgetUser();
  }

  /**
   * Asks for memory. More than there is at all counts as all of it, so that nothing waits for ever.
   *
   * @param onGranted Called when the memory comes later; what is there at once is in the answer.
   */
  ask(
    user: BudgetUser,
    { group, leastBytes, mostBytes }: MemoryWish & { readonly group: string },
    onGranted: () => void,
  ): MemoryLease {
    const lease = new Lease({
      user,
      group,
      leastBytes: Math.min(leastBytes, this.totalBytes),
      mostBytes: Math.min(mostBytes, this.totalBytes),
      release: () => this.#release(lease),
    });
    user.line.push(lease);
    this.#waiting.add(user);
    this.#serve();
    lease.onGranted = onGranted;
    return lease;
  }

  #serve(): void {
    const granted: Lease[] = [];
    // Who was served comes to the end of the line, and so up again.
    for (const user of this.#waiting) {
      const first = user.line[0];
      if (first === undefined) continue;
      // Nobody overtakes who waits for the memory that is left, or large wishes would wait for ever.
      if (first.leastBytes > this.#freeBytes) break;
      const sizeBytes = this.#offer(first);
      if (sizeBytes === 0) continue;
      user.line.shift();
      this.#waiting.delete(user);
      if (user.line.length > 0) this.#waiting.add(user);
      this.#take(first, sizeBytes);
      granted.push(first);
    }
    for (const lease of granted) {
      if (lease.sizeBytes > 0) lease.onGranted?.();
    }
  }

  #offer(lease: Lease): number {
    const { leastBytes, mostBytes } = lease;
    // Beyond the least there is only what nobody misses.
    const isPlenty = (this.#freeBytes - mostBytes) * 2 >= this.totalBytes;
    if (isPlenty && this.#fits(lease, mostBytes)) return mostBytes;
    return this.#fits(lease, leastBytes) ? leastBytes : 0;
  }

  #fits({ user, group }: Lease, sizeBytes: number): boolean {
    const leftBytes = this.#freeBytes - sizeBytes;
    const ofGroup = this.#groups.get(group) ?? 0;
    const isFirst = user.heldBytes === 0 && leftBytes >= this.totalBytes / 8;
    return (
      leftBytes >= 0 &&
      (user.heldBytes === 0 || user.heldBytes + sizeBytes <= leftBytes) &&
      (ofGroup === 0 || ofGroup + sizeBytes <= 3 * leftBytes || isFirst)
    );
  }

  #take(lease: Lease, sizeBytes: number): void {
    const { user, group } = lease;
    lease.sizeBytes = sizeBytes;
    this.#freeBytes -= sizeBytes;
    user.heldBytes += sizeBytes;
    this.#groups.set(group, (this.#groups.get(group) ?? 0) + sizeBytes);
  }

  #release(lease: Lease): void {
    const { user, group, sizeBytes } = lease;
    if (sizeBytes === 0) {
      user.line.splice(user.line.indexOf(lease), 1);
      if (user.line.length === 0) this.#waiting.delete(user);
    } else {
      lease.sizeBytes = 0;
      this.#freeBytes += sizeBytes;
      user.heldBytes -= sizeBytes;
      const left = (this.#groups.get(group) ?? 0) - sizeBytes;
      if (left > 0) this.#groups.set(group, left);
      else this.#groups.delete(group);
    }
    if (this.#waiting.size > 0) this.#serve();
  }
}

/** One of those who share a {@link FairBudget}. */
export class BudgetUser {
  heldBytes = 0;
  /** What it waits for, in order. */
  readonly line: Lease[] = [];
}

class Lease implements MemoryLease {
  readonly user: BudgetUser;
  readonly group: string;
  readonly leastBytes: number;
  readonly mostBytes: number;
  sizeBytes = 0;
  onGranted: (() => void) | undefined;
  #release: (() => void) | undefined;

  constructor(asked: MemoryWish & { user: BudgetUser; group: string; release: () => void }) {
    this.user = asked.user;
    this.group = asked.group;
    this.leastBytes = asked.leastBytes;
    this.mostBytes = asked.mostBytes;
    this.#release = asked.release;
  }

  release(): void {
    const release = this.#release;
    this.#release = undefined;
    release?.();
  }
}
