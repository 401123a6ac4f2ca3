/** What one run of a build tool asked and got, by the id that the tool gives it. */
export interface InvocationFigures {
  actionHits: number;
  actionMisses: number;
  actionsStored: number;
  blobsRead: number;
  bytesRead: number;
  blobsStored: number;
  bytesStored: number;
  readonly firstAtMs: number;
  lastAtMs: number;
}

/** Runs of build tools that were seen lately. What a tool says of itself is taken for figures only. */
export interface Invocations {
  /** The figures to add to; `undefined` for an id that is none. */
  of(viewId: number, id: string): InvocationFigures | undefined;
  find(viewId: number, id: string): InvocationFigures | undefined;
}

/** Beyond it the run goes that was heard of least lately. */
const MAX_INVOCATIONS = 1000;
const ID = /^[A-Za-z0-9-]{1,64}$/;

export function createInvocations(now: () => number): Invocations {
  const known = new Map<string, InvocationFigures>();
  return {
    of(viewId, id) {
      const key = `${viewId}/${id}`;
      let figures = known.get(key);
      if (figures === undefined) {
        if (!ID.test(id)) return undefined;
        const firstAtMs = now();
        figures = {
          actionHits: 0,
          actionMisses: 0,
          actionsStored: 0,
          blobsRead: 0,
          bytesRead: 0,
          blobsStored: 0,
          bytesStored: 0,
          firstAtMs,
          lastAtMs: firstAtMs,
        };
      } else {
        figures.lastAtMs = now();
        known.delete(key);
      }
      known.set(key, figures);
      const [oldest] = known.keys();
      if (known.size > MAX_INVOCATIONS && oldest !== undefined) known.delete(oldest);
      return figures;
    },
    find: (viewId, id) => known.get(`${viewId}/${id}`),
  };
}
