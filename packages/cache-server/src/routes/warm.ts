import { setTimeout as sleep } from "node:timers/promises";

import { isStorePathHash, parseStorePathBaseName } from "@glorious/nix-store";
import * as v from "valibot";

import type { Exchange } from "../http/exchange.ts";
import { readJsonBody } from "../http/json-body.ts";
import type { Route } from "../http/router.ts";
import { sendJson } from "../http/send.ts";
import type { CacheIndex } from "../index/cache-index.ts";
import type { ReadChain } from "../trust/read-chain.ts";
import { UpstreamFault } from "../upstream/upstream-fault.ts";
import type { UpstreamHit } from "../upstream/upstream-reader.ts";
import type { RouteServices } from "./route-services.ts";
import { readVia } from "./upstream-answers.ts";

const MAX_JSON_BYTES = 4 * 2 ** 20;
const MAX_ROOTS = 20_000;
const MAX_KNOWN = 50_000;
/** An answer ends after this with what is left; well before proxies and clients give it up. */
const MAX_ANSWER_MS = 15_000;
const PATHS_PER_LOOK = 128;
const GRAPH_PAGE = 1000;
/** NARs that wait for their turn or come. */
const MAX_WAITING = 64;

const StorePathHash = v.pipe(v.string(), v.check(isStorePathHash, "Expected 32 nix32 characters"));
const hashes = (most: number) =>
  v.optional(
    v.pipe(v.array(StorePathHash), v.maxLength(most, `Expected at most ${most} in one request`)),
    [],
  );

const WarmRequest = v.object({
  roots: hashes(MAX_ROOTS),
  /** What the view's own paths refer to and the view has not. */
  fromPush: v.optional(v.boolean(), false),
  closure: v.optional(v.boolean(), true),
  /** Done by the requests before. */
  known: hashes(MAX_KNOWN),
});

/** Fetches closures from a view's upstreams before anybody asks for them. */
export function warmRoutes(services: RouteServices): Route[] {
  const { gate, limits, index } = services;

  const warm = async (exchange: Exchange): Promise<void> => {
    const { caller, params } = exchange;
    const name = params["view"] ?? "";
    // Not for everybody, though everybody may read it.
    gate.requirePermission(caller, name, "pull");
    const chain = await gate.requireChain(caller, name);
    const body = await readJsonBody(exchange, WarmRequest, {
      ...limits,
      maxSizeBytes: MAX_JSON_BYTES,
    });
    const roots = body.fromPush
      ? [...body.roots, ...(await findOutgoing(index, chain))]
      : body.roots;
    const run = new WarmUp(services, exchange, chain, body.closure);
    for (const hash of body.known) run.know(hash);
    for (const hash of roots) run.enqueue(hash);
    await run.go(performance.now() + MAX_ANSWER_MS);
    sendJson(exchange, run.report());
  };

  return [
    {
      method: "POST",
      pattern: "/_flywheel/v1/views/:view/warm",
      family: "flywheel",
      handler: warm,
    },
  ];
}

/** Hashes of what a view's own paths refer to and the view itself does not have. */
async function findOutgoing(
  index: Pick<CacheIndex, "listGraph">,
  { views: [view] }: ReadChain,
): Promise<string[]> {
  if (view === undefined) return [];
  const own = new Set<string>();
  const referred = new Set<string>();
  for (let after: string | undefined; ;) {
    const page = await index.listGraph(view.id, {
      limit: GRAPH_PAGE,
      ...(after === undefined ? {} : { after }),
    });
    for (const { storePathHash, references } of page) {
      own.add(storePathHash);
      for (const reference of references) referred.add(reference);
    }
    after = page.at(-1)?.storePathHash;
    if (page.length < GRAPH_PAGE) break;
  }
  return [...referred].filter((hash) => !own.has(hash));
}

/** One request's walk through closures. */
class WarmUp {
  readonly #services: RouteServices;
  readonly #exchange: Exchange;
  readonly #chain: ReadChain;
  readonly #isClosure: boolean;
  readonly #seen = new Set<string>();
  readonly #queue: string[] = [];
  readonly #done: string[] = [];
  readonly #missing: string[] = [];
  readonly #failed: { readonly storePathHash: string; readonly reason: string }[] = [];
  /** By the hash of the path. */
  readonly #running = new Map<string, Promise<void>>();
  #next = 0;
  #fetched = 0;
  #already = 0;
  #bytes = 0;
  #upstreamBytes = 0;

  constructor(services: RouteServices, exchange: Exchange, chain: ReadChain, isClosure: boolean) {
    this.#services = services;
    this.#exchange = exchange;
    this.#chain = chain;
    this.#isClosure = isClosure;
  }

  know(storePathHash: string): void {
    this.#seen.add(storePathHash);
  }

  enqueue(storePathHash: string): void {
    if (this.#seen.has(storePathHash)) return;
    this.#seen.add(storePathHash);
    this.#queue.push(storePathHash);
  }

  async go(endMs: number): Promise<void> {
    const { signal } = this.#exchange;
    const isOver = (): boolean => performance.now() >= endMs;
    while (this.#next < this.#queue.length && !isOver()) {
      signal.throwIfAborted();
      const asked = this.#queue.slice(this.#next, this.#next + PATHS_PER_LOOK);
      this.#next += asked.length;
      for (const hit of await this.#look(asked)) this.#begin(hit);
      while (this.#running.size > MAX_WAITING && !isOver()) {
        await this.#oneEnds(endMs);
      }
    }
    while (this.#running.size > 0 && !isOver()) await this.#oneEnds(endMs);
  }

  /** What is left comes all the same; whoever asks again hears of it. */
  report(): object {
    return {
      fetched: this.#fetched,
      already: this.#already,
      missing: this.#missing,
      failed: this.#failed,
      bytes: this.#bytes,
      upstreamBytes: this.#upstreamBytes,
      done: this.#done,
      rest: [...this.#running.keys(), ...this.#queue.slice(this.#next)],
    };
  }

  /** What has to be fetched of these. */
  async #look(asked: readonly string[]): Promise<UpstreamHit[]> {
    const { index, upstreams } = this.#services;
    const found = await index.findNarInfos(this.#chain.readIds, asked);
    const there = new Set(found.map(({ storePathHash }) => storePathHash));
    for (const { storePathHash, references } of found) {
      this.#already += 1;
      this.#done.push(storePathHash);
      this.#follow(references);
    }
    const unknown = asked.filter((hash) => !there.has(hash));
    const via = readVia(this.#exchange);
    const hits = (await upstreams?.findAll(this.#chain.upstreams, unknown, via)) ?? [];
    const has = new Set(hits.map(({ narInfo }) => narInfo.manifest.storePathHash));
    for (const hash of unknown.filter((each) => !has.has(each))) {
      this.#missing.push(hash);
      this.#done.push(hash);
    }
    for (const { narInfo } of hits) this.#follow(narInfo.manifest.references);
    return hits;
  }

  #follow(references: readonly string[]): void {
    if (!this.#isClosure) return;
    const { storeDir } = this.#chain.view;
    for (const each of references) this.enqueue(parseStorePathBaseName(each, storeDir).hash);
  }

  #begin(hit: UpstreamHit): void {
    const { storePathHash } = hit.narInfo.manifest;
    const ended = this.#fetch(hit).finally(() => this.#running.delete(storePathHash));
    this.#running.set(storePathHash, ended);
  }

  async #fetch(hit: UpstreamHit): Promise<void> {
    const { storePathHash, narSize } = hit.narInfo.manifest;
    const { upstreams } = this.#services;
    const { signal } = this.#exchange;
    try {
      using download = await upstreams?.fetch(hit, { signal, isSure: false });
      const result = await download?.ended;
      if (result?.fault !== undefined) throw result.fault;
      if (result === undefined) this.#already += 1;
      else this.#fetched += 1;
      this.#bytes += result === undefined ? 0 : narSize;
      this.#upstreamBytes += result?.receivedBytes ?? 0;
    } catch (error) {
      const reason = error instanceof UpstreamFault ? error.reason : "unreachable";
      this.#failed.push({ storePathHash, reason });
    }
    this.#done.push(storePathHash);
  }

  async #oneEnds(endMs: number): Promise<void> {
    const late = new AbortController();
    const waitMs = Math.max(0, endMs - performance.now());
    const timer = sleep(waitMs, undefined, { signal: late.signal }).catch(() => {});
    await Promise.race([timer, ...this.#running.values()]);
    late.abort();
  }
}
