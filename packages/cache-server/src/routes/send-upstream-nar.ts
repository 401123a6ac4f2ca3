import type { IncomingMessage } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

import { isCacheError } from "@glorious/core";

import type { Exchange } from "../http/exchange.ts";
import { requestedRange } from "../http/send.ts";
import { sendChunks } from "../http/stream-body.ts";
import type { ReadChain } from "../trust/read-chain.ts";
import type { HeldDownload } from "../upstream/nar-downloads.ts";
import { isPassingFault, UpstreamFault } from "../upstream/upstream-fault.ts";
import type { Via } from "../upstream/upstream-http.ts";
import type { UpstreamHit, UpstreamReader } from "../upstream/upstream-reader.ts";
import { headersOf } from "./read-headers.ts";

/** What a NAR is sent from. */
export interface UpstreamNarSource {
  readonly upstreams: UpstreamReader;
  /** The upstream whose narinfo the client has. */
  readonly hit: UpstreamHit;
  readonly via: Via;
  /** How long a client waits for the first byte. */
  readonly patienceMs: number;
  /** As for `NarDownloads.join`. */
  readonly isSure: boolean;
}

const YEAR_SECONDS = 31_536_000;
/** The longest wait for a rest whose beginning has to come once more, in times of the patience. */
const MAX_PATIENCES = 5;
const RETRY_PAUSE_MS = 100;
/** What a second attempt in the same moment may not meet again. */
const WORTH_A_RETRY: ReadonlySet<string> = new Set(["unreachable", "status", "cut"]);

/**
 * Sends a NAR while it comes from its upstream; where that breaks off, from another upstream that has the same file.
 * `false` when it has just been stored, unless the caller is sure.
 *
 * Nix builds what is not there, but fails with a transfer that breaks off. It asks for the rest of such a one first, so
 * that nothing is promised before it can be had: what fails before the first byte is an {@link UpstreamFault}.
 *
 * @throws {UpstreamFault} when none can be had, or not to its end.
 */
export async function sendUpstreamNar(
  exchange: Exchange,
  chain: ReadChain,
  source: UpstreamNarSource,
): Promise<boolean> {
  const { upstreams, isSure } = source;
  if (source.hit.narInfo.fileHash === undefined && isRestOf(exchange.request)) throw noRest();
  const sending = new Sending(exchange, chain);
  const hasOthers = chain.upstreams.length > 1;
  // Nobody waits longer because there is another upstream to ask.
  const patienceMs = hasOthers ? source.patienceMs / 2 : source.patienceMs;
  const hits = [source.hit];
  let fault: UpstreamFault | undefined;
  for (let hit = hits.shift(); hit !== undefined; hit = hits.shift()) {
    const isFirst = fault === undefined;
    using patience = new Patience(exchange.signal, patienceMs);
    try {
      using download = await upstreams.fetch(hit, {
        signal: patience.signal,
        isSure: isSure || sending.isBegun,
      });
      if (download === undefined) return false;
      await sending.send(hit, download, patience);
      return true;
    } catch (error) {
      const isLate = patience.isOver;
      fault = isLate ? new UpstreamFault("timeout", "it is on its way") : toFault(error);
      if (!sending.mayGoOnAfter(fault)) break;
      if (isFirst) {
        hits.push(...(await upstreams.others(hit, chain.upstreams, source.via)));
        if (isLate && hasOthers) hits.push(hit);
        if (!isLate && WORTH_A_RETRY.has(fault.reason)) {
          await sleep(RETRY_PAUSE_MS);
          hits.push(hit);
        }
      }
    }
  }
  throw fault ?? new UpstreamFault("unreachable", "it is left alone for a while");
}

/** Whether somebody wants to go on with what it began to read. */
export function isRestOf({ headers }: Pick<IncomingMessage, "headers">): boolean {
  return (
    headers.range !== undefined &&
    headers["if-range"] === undefined &&
    !/^bytes=0*-/.test(headers.range)
  );
}

function noRest(): UpstreamFault {
  return new UpstreamFault("cut", "nobody knows whether it has the same bytes again");
}

/** One answer, however many downloads its bytes come from. */
class Sending {
  readonly #exchange: Exchange;
  readonly #chain: ReadChain;
  #sizeBytes: number | undefined;
  #position = 0;
  #end: number | undefined;
  isBegun = false;

  constructor(exchange: Exchange, chain: ReadChain) {
    this.#exchange = exchange;
    this.#chain = chain;
  }

  /** The rest of bytes that may be wrong is of no use to a client that has them. */
  mayGoOnAfter({ reason }: UpstreamFault): boolean {
    const hasNothing = this.#position === 0;
    return !this.#exchange.signal.aborted && (hasNothing || isPassingFault(reason));
  }

  async send(hit: UpstreamHit, download: HeldDownload, patience: Patience): Promise<void> {
    const { request, response } = this.#exchange;
    const { fileHash } = hit.narInfo;
    const { sizeBytes, spool } = download;
    if (this.isBegun && sizeBytes !== this.#sizeBytes) {
      throw new UpstreamFault("length", "another upstream has a file of another size");
    }
    // Without its hash nobody knows whether another download has the same bytes.
    const isFixed = fileHash !== undefined && sizeBytes !== undefined;
    const etag = `"${fileHash ?? ""}"`;
    const range =
      isFixed && !this.isBegun ? requestedRange(request, response, etag, sizeBytes) : undefined;
    if (!isFixed && isRestOf(request)) throw noRest();
    if (!this.isBegun) {
      this.#sizeBytes = sizeBytes;
      this.#position = range?.start ?? 0;
      this.#end = range?.end;
    }
    const wanted = {
      start: this.#position,
      ...(this.#end === undefined ? {} : { end: this.#end }),
    };
    const chunks = spool.follow(wanted, patience.signal);
    // What comes before a rest is worth the wait as long as it comes.
    if (this.#position > 0) patience.renewWith(() => spool.sizeBytes);
    const first = await chunks.next();
    patience.end();
    if (!this.isBegun) {
      this.isBegun = true;
      const length = range === undefined ? sizeBytes : range.end - range.start;
      response.writeHead(range === undefined ? 200 : 206, {
        ...(isFixed
          ? headersOf(this.#chain, YEAR_SECONDS, "immutable")
          : headersOf(this.#chain, 300)),
        "content-type": "application/x-nix-nar",
        ...(length === undefined ? {} : { "content-length": length }),
        // Who may ask for the rest learns that it is not there, and does without; nobody else does.
        "accept-ranges": "bytes",
        ...(isFixed ? { etag } : {}),
        ...(range === undefined
          ? {}
          : { "content-range": `bytes ${range.start}-${range.end - 1}/${sizeBytes ?? 0}` }),
      });
    }
    await sendChunks(this.#exchange, this.#counted(first, chunks));
  }

  async *#counted(
    first: IteratorResult<Buffer>,
    rest: AsyncGenerator<Buffer>,
  ): AsyncGenerator<Buffer> {
    if (first.done === true) return;
    this.#position += first.value.length;
    yield first.value;
    for await (const chunk of rest) {
      this.#position += chunk.length;
      yield chunk;
    }
  }
}

/** How long somebody waits for the first byte. */
class Patience implements Disposable {
  readonly #over = new AbortController();
  readonly #patienceMs: number;
  #timer: NodeJS.Timeout | undefined;
  readonly signal: AbortSignal;

  constructor(signal: AbortSignal, patienceMs: number) {
    this.#patienceMs = patienceMs;
    this.signal = AbortSignal.any([signal, this.#over.signal]);
    this.#timer = setTimeout(() => this.#over.abort(), patienceMs);
  }

  get isOver(): boolean {
    return this.#over.signal.aborted;
  }

  /** Begins anew, and again as long as a number grows, within bounds. */
  renewWith(progress: () => number): void {
    this.end();
    let last = progress();
    let rounds = 0;
    this.#timer = setInterval(() => {
      const now = progress();
      rounds += 1;
      if (now === last || rounds === MAX_PATIENCES) this.#over.abort();
      last = now;
    }, this.#patienceMs);
  }

  /** There is nothing to wait for any more. */
  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  [Symbol.dispose](): void {
    this.end();
  }
}

/** A queue that is full is as good as an upstream that is late: Nix would fail with what it may build. */
function toFault(error: unknown): UpstreamFault {
  if (error instanceof UpstreamFault) return error;
  if (isCacheError(error, "UNAVAILABLE")) return new UpstreamFault("timeout", error.message, error);
  throw error;
}
