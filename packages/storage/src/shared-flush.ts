/**
 * Shares flushes of one thing among all who wait for one: who asks while it is being flushed gets the flush after
 * that, together with everybody else who asks meanwhile, because one under way may have begun before their change.
 */
export function shareFlushes(
  flush: (name: string) => Promise<void>,
): (name: string) => Promise<void> {
  const waiting = new Map<string, Promise<void>>();
  const running = new Map<string, Promise<void>>();

  const flushNext = async (name: string): Promise<void> => {
    await running.get(name)?.catch(() => {});
    waiting.delete(name);
    const flushing = flush(name);
    running.set(name, flushing);
    try {
      await flushing;
    } finally {
      if (running.get(name) === flushing) running.delete(name);
    }
  };

  return (name) => {
    const known = waiting.get(name);
    if (known !== undefined) return known;
    const next = flushNext(name);
    waiting.set(name, next);
    return next;
  };
}
