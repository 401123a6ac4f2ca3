/**
 * `AsyncDisposableStack` for Node 22, which has `Symbol.asyncDispose` only. The bundle's `using` declarations are
 * lowered when it is made; this class is what they are used with.
 *
 * @see https://tc39.es/proposal-explicit-resource-management/
 */
export class PortableAsyncDisposableStack implements AsyncDisposableStack {
  #disposers: (() => unknown)[] = [];
  #isDisposed = false;

  get disposed(): boolean {
    return this.#isDisposed;
  }

  get [Symbol.toStringTag](): string {
    return "AsyncDisposableStack";
  }

  use<T extends AsyncDisposable | Disposable | null | undefined>(value: T): T {
    if (value === null || value === undefined) return value;
    this.#push(() => {
      if (Symbol.asyncDispose in value) return value[Symbol.asyncDispose]();
      return value[Symbol.dispose]();
    });
    return value;
  }

  adopt<T>(value: T, onDispose: (value: T) => PromiseLike<void> | void): T {
    this.#push(() => onDispose(value));
    return value;
  }

  defer(onDispose: () => PromiseLike<void> | void): void {
    this.#push(onDispose);
  }

  move(): AsyncDisposableStack {
    this.#requireOpen();
    const moved = new PortableAsyncDisposableStack();
    moved.#disposers = this.#disposers;
    this.#disposers = [];
    this.#isDisposed = true;
    return moved;
  }

  disposeAsync(): Promise<void> {
    return this[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    const errors: unknown[] = [];
    for (const dispose of this.#disposers.splice(0).toReversed()) {
      try {
        await dispose();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length === 1) throw errors[0];
    if (errors.length > 1) throw new AggregateError(errors, "Several resources failed to close");
  }

  #push(disposer: () => unknown): void {
    this.#requireOpen();
    this.#disposers.push(disposer);
  }

  #requireOpen(): void {
    if (this.#isDisposed) throw new ReferenceError("The stack is disposed already");
  }
}

/** Makes `AsyncDisposableStack` global where it is not. */
export function installAsyncDisposableStack(): void {
  globalThis.AsyncDisposableStack ??= PortableAsyncDisposableStack;
}
