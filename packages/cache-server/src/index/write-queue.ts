/** Most operations in one batch, so that the first of them does not wait for thousands of others. */
const MAX_BATCH = 1000;

interface Pending<Operation, Outcome> {
  readonly operation: Operation;
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Collects operations and runs them in batches, one batch at a time, in the order they came.
 *
 * What arrives in one turn of the event loop, or while a batch runs, makes up the next one: an idle writer
 * answers at once, a busy one needs few commits. Each promise settles after its batch has ended.
 */
export class WriteQueue<Operation, Outcome> {
  readonly #runBatch: (operations: readonly Operation[]) => Promise<readonly Outcome[]>;
  readonly #pending: Pending<Operation, Outcome>[] = [];
  #running: Promise<void> | undefined;

  /** @param runBatch Answers as many outcomes as it got operations; when it rejects, all of them do. */
  constructor(runBatch: (operations: readonly Operation[]) => Promise<readonly Outcome[]>) {
    this.#runBatch = runBatch;
  }

  /** Queues an operation. */
  run(operation: Operation): Promise<Outcome> {
    const { promise, resolve, reject } = Promise.withResolvers<Outcome>();
    this.#pending.push({ operation, resolve, reject });
    this.#running ??= this.#drain();
    return promise;
  }

  /** Operations that wait for their batch; those of the running one are not among them. */
  get waiting(): number {
    return this.#pending.length;
  }

  /** Resolves when nothing is queued any more. */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  async #drain(): Promise<void> {
    while (this.#pending.length > 0) {
      await new Promise((resolve) => setImmediate(resolve));
      const batch = this.#pending.splice(0, MAX_BATCH);
      try {
        const outcomes = await this.#runBatch(batch.map(({ operation }) => operation));
        for (const [at, { resolve, reject }] of batch.entries()) {
          const outcome = outcomes[at];
          if (outcome === undefined) reject(new Error("A batch answered too few outcomes"));
          else resolve(outcome);
        }
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.#running = undefined;
  }
}
