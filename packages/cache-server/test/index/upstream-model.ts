import { CacheError } from "@glorious/core";

import type {
  NewUpstream,
  UpstreamChanges,
  UpstreamPath,
  UpstreamRecord,
} from "../../src/index/upstream-index.ts";

/** What hidden views are to the rest of the model. */
export interface HiddenViews {
  has(viewId: number): boolean;
  add(viewId: number): void;
  delete(viewId: number): void;
}

/** Upstreams, as plainly as they can be said; a part of the `IndexModel`. */
export class UpstreamModel {
  readonly upstreams: Map<string, UpstreamRecord> = new Map();
  /** Ids of the upstreams that each view has, in its order. */
  readonly #attached: Map<number, readonly number[]> = new Map();
  /** With those of views that are gone, until they are purged. */
  readonly #paths: Map<string, UpstreamPath> = new Map();
  readonly #hidden: HiddenViews;

  constructor(hidden: HiddenViews) {
    this.#hidden = hidden;
  }

  /** What `createUpstream` refuses. */
  requireCreatable({ name, onlyViewId }: NewUpstream): void {
    if (this.upstreams.has(name)) throw new CacheError("CONFLICT", "taken");
    if (onlyViewId !== undefined) this.#requireView(onlyViewId);
  }

  add(upstream: UpstreamRecord): void {
    this.upstreams.set(upstream.name, upstream);
    this.#hidden.add(upstream.viewId);
  }

  /** Whether a change takes a key away, and with it all that was believed on its word. */
  losesKey(name: string, { publicKeys }: UpstreamChanges): boolean {
    const before = this.upstreams.get(name)?.publicKeys ?? [];
    return publicKeys !== undefined && before.some((key) => !publicKeys.includes(key));
  }

  /** @param viewId that of the hidden view from now on, which is another one when a key was lost. */
  update(name: string, changes: UpstreamChanges, viewId: number): void {
    const before = this.upstreams.get(name);
    if (before === undefined) return;
    const { maxSizeBytes = before.maxSizeBytes, ...others } = changes;
    const size = maxSizeBytes === "default" ? undefined : maxSizeBytes;
    this.upstreams.set(name, { ...before, ...others, maxSizeBytes: size, viewId });
    if (viewId === before.viewId) return;
    this.#hidden.delete(before.viewId);
    this.#hidden.add(viewId);
  }

  delete(name: string): boolean {
    const upstream = this.upstreams.get(name);
    if (upstream === undefined) return false;
    this.upstreams.delete(name);
    this.#hidden.delete(upstream.viewId);
    for (const [viewId, ids] of this.#attached) {
      this.#attached.set(
        viewId,
        ids.filter((id) => id !== upstream.id),
      );
    }
    return true;
  }

  /** The view is gone, and with it the upstreams that were its alone. */
  forgetView(viewId: number): void {
    this.#attached.delete(viewId);
    for (const { name, onlyViewId } of [...this.upstreams.values()]) {
      if (onlyViewId === viewId) this.delete(name);
    }
  }

  setViewUpstreams(viewId: number, upstreamIds: readonly number[]): void {
    this.#requireView(viewId);
    for (const id of upstreamIds) {
      const upstream = [...this.upstreams.values()].find((each) => each.id === id);
      if (upstream === undefined || (upstream.onlyViewId ?? viewId) !== viewId) {
        throw new CacheError("NOT_FOUND", "no such upstream");
      }
    }
    this.#attached.set(viewId, [...new Set(upstreamIds)]);
  }

  upstreamsOfViews(viewIds: readonly number[]): UpstreamRecord[] {
    const ids = new Set(viewIds.flatMap((viewId) => this.#attached.get(viewId) ?? []));
    const all = [...this.upstreams.values()];
    return [...ids]
      .flatMap((id) => all.filter((upstream) => upstream.id === id))
      .toSorted((a, b) => a.priority - b.priority);
  }

  /** Ids of the views that have it, in no order. */
  viewsOf(upstreamId: number): number[] {
    return [...this.#attached].flatMap(([viewId, ids]) =>
      ids.includes(upstreamId) ? [viewId] : [],
    );
  }

  putPaths(paths: readonly UpstreamPath[]): void {
    for (const path of paths) {
      if (!this.#hidden.has(path.hiddenViewId)) continue;
      this.#paths.set(`${path.hiddenViewId} ${path.storePathHash}`, path);
    }
  }

  removePath(hiddenViewId: number, storePathHash: string): void {
    this.#paths.delete(`${hiddenViewId} ${storePathHash}`);
  }

  /** In no order. */
  findPaths(hiddenViewIds: readonly number[]): UpstreamPath[] {
    return [...this.#paths.values()].filter(
      ({ hiddenViewId }) => hiddenViewIds.includes(hiddenViewId) && this.#hidden.has(hiddenViewId),
    );
  }

  findFile(hiddenViewIds: readonly number[], fileHash: string): UpstreamPath | undefined {
    return hiddenViewIds
      .flatMap((id) => this.findPaths([id]))
      .find((path) => path.fileHash === fileHash);
  }

  trim(checkedBeforeMs: number): number {
    return this.#forget(({ checkedAtMs }) => checkedAtMs < checkedBeforeMs);
  }

  /** Forgets what views that are gone have left. */
  purge(): void {
    this.#forget(({ hiddenViewId }) => !this.#hidden.has(hiddenViewId));
  }

  #forget(isDoomed: (path: UpstreamPath) => boolean): number {
    const doomed = [...this.#paths].filter(([, path]) => isDoomed(path));
    for (const [key] of doomed) this.#paths.delete(key);
    return doomed.length;
  }

  #requireView(viewId: number): void {
    if (!this.#hidden.has(viewId)) throw new CacheError("NOT_FOUND", "no such view");
  }
}
