/** Gives up on work that takes too long; it goes on unheard. @throws {Error} then, naming the work. */
export async function timeBox<T>(what: string, timeoutMs: number, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    reject(new Error(`${what} took longer than ${timeoutMs / 1000} s`));
  }, timeoutMs);
  work.catch(() => {});
  return Promise.race([work, promise]).finally(() => clearTimeout(timer));
}
