import type { PrincipalFacts } from "./provenance-index.ts";

/**
 * What merge queues built and a push of the same commit may take over; part of `CacheIndex`, whose conventions hold
 * here. What is offered is what writers with one key wrote, and nobody else since; nothing that is lost or revoked.
 */
export interface AdoptionIndex {
  /** The overlays of a view in which writers with this key wrote anything. */
  findOffers(key: string, baseId: number): Promise<Offer[]>;
  /** Hashes of the paths that are offered, in their order, beginning behind `after`. */
  listOfferedPaths(
    offer: Offer,
    page: { readonly after?: string; readonly limit: number },
  ): Promise<string[]>;
  /**
   * Takes at most `limit` offered documents over that the view does not have, and returns how many.
   *
   * @throws {CacheError} `FORBIDDEN` when the writer was revoked meanwhile.
   */
  adoptDocuments(
    viewId: number,
    offer: Offer,
    options: { readonly writer: PrincipalFacts; readonly atMs: number; readonly limit: number },
  ): Promise<number>;
}

/** An overlay, and by what key its writers are known. */
export interface Offer {
  readonly viewId: number;
  readonly viewName: string;
  readonly key: string;
}
