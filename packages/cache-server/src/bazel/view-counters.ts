/** What the callers of one view asked and got, since the server's start. */
export class ViewCounters {
  actionHits = 0;
  /** Those that were evicted included. */
  actionsAbsent = 0;
  actionsEvicted = 0;
  actionsIncomplete = 0;
  actionsStored = 0;
  blobsFound = 0;
  blobsMissing = 0;
  blobsRead = 0;
  blobsNotRead = 0;
  bytesRead = 0;
  blobsStored = 0;
  blobsPresent = 0;
  bytesStored = 0;
  valueHits = 0;
  valueMisses = 0;
  valuesStored = 0;
}

/** The counters of all views by their ids; of a view that is gone they stay until the server ends. */
export interface BazelCounters {
  of(viewId: number): ViewCounters;
  all(): Iterable<ViewCounters>;
}

export function createBazelCounters(): BazelCounters {
  const views = new Map<number, ViewCounters>();
  return {
    of(viewId) {
      let counters = views.get(viewId);
      if (counters === undefined) views.set(viewId, (counters = new ViewCounters()));
      return counters;
    },
    all: () => views.values(),
  };
}
