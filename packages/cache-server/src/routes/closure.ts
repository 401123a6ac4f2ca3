import { setImmediate as nextTurn } from "node:timers/promises";
import { promisify } from "node:util";
import { constants, zstdCompress } from "node:zlib";

import { isStorePathHash, parseStorePathBaseName } from "@glorious/nix-store";
import * as v from "valibot";

import type { Exchange } from "../http/exchange.ts";
import { readJsonBody } from "../http/json-body.ts";
import type { Route } from "../http/router.ts";
import { acceptsZstd, sendBytes, sendJson } from "../http/send.ts";
import type { FoundNarInfo } from "../index/cache-index.ts";
import type { ReadChain } from "../trust/read-chain.ts";
import type { RouteServices } from "./route-services.ts";
import { createUpstreamAnswers } from "./upstream-answers.ts";

const MAX_JSON_BYTES = 4 * 2 ** 20;
const MAX_ROOTS = 20_000;
const MAX_KNOWN = 50_000;
const DEFAULT_LIMIT = 1000;
const MAX_LIMIT = 5000;
/** An answer ends with the look-up that brings it here. */
const MAX_ANSWER_BYTES = 8 * 2 ** 20;
/** An answer that asks upstreams ends after this, before its client takes it for lost. */
const MAX_UPSTREAM_MS = 2000;
/** Paths looked up in one turn of the event loop: a millisecond or two. */
const PATHS_PER_TURN = 128;

const compress = promisify(zstdCompress);
const FAST = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };

const StorePathHash = v.pipe(v.string(), v.check(isStorePathHash, "Expected 32 nix32 characters"));
const tooMany = (most: number): string => `Expected at most ${most} in one request`;

const ClosureRequest = v.object({
  roots: v.pipe(
    v.array(StorePathHash),
    v.minLength(1, "Expected at least one store path hash"),
    v.maxLength(MAX_ROOTS, tooMany(MAX_ROOTS)),
  ),
  known: v.optional(v.pipe(v.array(StorePathHash), v.maxLength(MAX_KNOWN, tooMany(MAX_KNOWN))), []),
  limit: v.optional(
    v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(MAX_LIMIT)),
    DEFAULT_LIMIT,
  ),
});

/** The narinfos of whole closures in one answer, so that a client need not ask level by level. */
export function closureRoutes(services: RouteServices): Route[] {
  const { index, gate, limits, accesses, reads } = services;
  const passedOn = createUpstreamAnswers(services);

  /** What the chain has of these, each counted as used. */
  const look = async (
    chain: ReadChain,
    storePathHashes: readonly string[],
  ): Promise<FoundNarInfo[]> => {
    for (;;) {
      const found = await index.findNarInfos(chain.readIds, storePathHashes);
      let deletion: Promise<void> | undefined;
      for (const { viewId, storePathHash, accessedAtMs } of found) {
        deletion = accesses.usePath(viewId, storePathHash, accessedAtMs) ?? deletion;
      }
      if (deletion === undefined) return found;
      await deletion;
    }
  };

  const closure = async (exchange: Exchange): Promise<void> => {
    const { caller, params, signal } = exchange;
    const chain = await gate.requireChain(caller, params["view"] ?? "");
    const { roots, known, limit } = await readJsonBody(exchange, ClosureRequest, {
      ...limits,
      maxSizeBytes: MAX_JSON_BYTES,
    });
    const seen = new Set(known);
    const queue: string[] = [];
    const enqueue = (storePathHash: string): void => {
      if (seen.has(storePathHash)) return;
      seen.add(storePathHash);
      queue.push(storePathHash);
    };
    roots.forEach(enqueue);
    const narinfos: { readonly storePathHash: string; readonly text: string }[] = [];
    const missing: string[] = [];
    let next = 0;
    let answerBytes = 0;
    // Upstreams may take their time for each level: the rest is then asked for with another request.
    const endMs = chain.upstreams.length === 0 ? Infinity : performance.now() + MAX_UPSTREAM_MS;
    while (
      next < queue.length &&
      narinfos.length < limit &&
      answerBytes < MAX_ANSWER_BYTES &&
      performance.now() < endMs
    ) {
      if (next > 0) await nextTurn();
      signal.throwIfAborted();
      const size = Math.min(PATHS_PER_TURN, limit - narinfos.length);
      const asked = queue.slice(next, next + size);
      next += asked.length;
      const paths = new Map((await look(chain, asked)).map((path) => [path.storePathHash, path]));
      const hits = await passedOn.narInfos(
        exchange,
        chain,
        asked.filter((hash) => !paths.has(hash)),
      );
      for (const storePathHash of asked) {
        const path = paths.get(storePathHash) ?? hits.get(storePathHash);
        if (path === undefined) {
          missing.push(storePathHash);
          continue;
        }
        if (paths.has(storePathHash)) {
          reads.note(caller.claims, path.viewId, "path", storePathHash);
        }
        const text = await passedOn.signed(chain, path);
        narinfos.push({ storePathHash, text });
        answerBytes += text.length;
        for (const reference of path.references) {
          enqueue(parseStorePathBaseName(reference, chain.view.storeDir).hash);
        }
      }
    }
    const answer = { narinfos, missing, rest: queue.slice(next) };
    if (!acceptsZstd(exchange)) {
      sendJson(exchange, answer);
      return;
    }
    // Hashes and signatures do not shrink, the rest of a narinfo does: to a third, in 2 ms for 400 of them.
    const body = await compress(JSON.stringify(answer), FAST);
    sendBytes(exchange, body, "application/json", { headers: { "content-encoding": "zstd" } });
  };

  return [
    {
      method: "POST",
      pattern: "/_flywheel/v1/views/:view/closure",
      family: "flywheel",
      handler: closure,
    },
  ];
}
