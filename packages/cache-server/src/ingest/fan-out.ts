/** Reads one copy of the stream; its result is its part of the outcome. */
export type Consumer<Result> = (chunks: AsyncIterable<Buffer>) => Promise<Result>;

/**
 * Gives every chunk of a stream to all consumers, as fast as the slowest takes them.
 *
 * Memory stays at one chunk. When the source or a consumer fails, the others see that failure at their next
 * chunk, and the first failure is thrown once all of them have ended. A consumer that ends early
 * with success just gets nothing more.
 */
export async function fanOut<Results extends readonly unknown[]>(
  source: AsyncIterable<Buffer>,
  consumers: { readonly [Index in keyof Results]: Consumer<Results[Index]> },
): Promise<Results> {
  const channels = consumers.map(() => createChannel());
  let failure: { readonly error: unknown } | undefined;
  const fail = (error: unknown): void => {
    failure ??= { error };
    for (const channel of channels) channel.fail(error);
  };
  const running = consumers.map(async (consumer, index) => {
    const channel = channels[index] as Channel;
    try {
      return await consumer(channel);
    } catch (error) {
      fail(error);
      return undefined;
    } finally {
      channel.close();
    }
  });
  try {
    for await (const chunk of source) {
      if (failure !== undefined) break;
      await Promise.all(channels.map((channel) => channel.write(chunk)));
    }
    for (const channel of channels) channel.end();
  } catch (error) {
    fail(error);
  }
  const results = await Promise.all(running);
  if (failure !== undefined) throw failure.error;
  return results as unknown as Results;
}

interface Channel extends AsyncIterable<Buffer> {
  /** Resolves when the reader took the chunk, or will take no more. */
  write(chunk: Buffer): Promise<void>;
  end(): void;
  fail(error: unknown): void;
  close(): void;
}

function createChannel(): Channel {
  let chunk: Buffer | undefined;
  let taken: (() => void) | undefined;
  let wake: (() => void) | undefined;
  let state: "open" | "ended" | "closed" = "open";
  let failure: { readonly error: unknown } | undefined;
  const signal = (): void => {
    wake?.();
    wake = undefined;
  };
  const release = (): void => {
    taken?.();
    taken = undefined;
  };

  async function* read(): AsyncGenerator<Buffer> {
    for (;;) {
      if (failure !== undefined) throw failure.error;
      if (chunk !== undefined) {
        const next = chunk;
        chunk = undefined;
        yield next;
        // Only now: the reader has come back for more, so it is done with the chunk.
        release();
        continue;
      }
      if (state !== "open") return;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }

  return {
    [Symbol.asyncIterator]: read,
    write(next) {
      if (state !== "open" || failure !== undefined) return Promise.resolve();
      chunk = next;
      return new Promise((resolve) => {
        taken = resolve;
        signal();
      });
    },
    end() {
      if (state === "open") state = "ended";
      signal();
    },
    fail(error) {
      failure ??= { error };
      chunk = undefined;
      release();
      signal();
    },
    close() {
      state = "closed";
      chunk = undefined;
      release();
      signal();
    },
  };
}
