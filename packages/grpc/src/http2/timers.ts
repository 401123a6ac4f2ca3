import type { ConnectionLimits } from "./limits.ts";
import { ERROR } from "./protocol.ts";
import type { Http2Stream } from "./stream.ts";

/** How long after the first GOAWAY of a drain the last one is sent, when the PING between them is not answered. */
const LAST_GOAWAY_AFTER_MS = 2000;

/** What is due at a tick. */
export interface DueWork {
  readonly failure: { readonly code: number; readonly message: string } | undefined;
  readonly stalled: readonly Http2Stream[];
  readonly keepAlive: boolean;
  readonly deadlines: boolean;
  readonly idle: boolean;
  readonly lastGoAway: boolean;
  readonly drained: boolean;
}

/** The clocks of one connection; they only move when they are told the time. */
export class ConnectionTimers {
  /** The earliest deadline of a call; may be earlier than the truth, never later. */
  earliestDeadlineMs: number = Infinity;
  readonly #limits: ConnectionLimits;
  #lastInputMs: number;
  #pingSentMs: number | undefined;
  /** Since when the other end owes us something: its hello, the rest of a frame or header block. */
  #waitingSinceMs: number;
  #idleSinceMs: number;
  #stallCheckMs: number;
  #drainMs: number | undefined;
  #isLastGoAwayDone = false;
  /** Output waited when stalls were looked for last, and whether some was taken since. */
  #didOutputWait = false;
  #isOutputTaken = true;

  constructor(limits: ConnectionLimits, nowMs: number) {
    this.#limits = limits;
    this.#lastInputMs = nowMs;
    this.#waitingSinceMs = nowMs;
    this.#idleSinceMs = nowMs;
    this.#stallCheckMs = nowMs;
  }

  onInput(nowMs: number, isStillWaiting: boolean): void {
    this.#lastInputMs = nowMs;
    this.#pingSentMs = undefined;
    if (!isStillWaiting) this.#waitingSinceMs = nowMs;
  }

  onOutputTaken(): void {
    this.#isOutputTaken = true;
  }

  onIdle(nowMs: number): void {
    this.#idleSinceMs = nowMs;
  }

  onDrain(nowMs: number): void {
    this.#drainMs = nowMs;
  }

  nextMs(waitsForPeer: boolean, openStreams: number): number {
    const limits = this.#limits;
    let next = this.earliestDeadlineMs;
    if (waitsForPeer) next = Math.min(next, this.#waitingSinceMs + limits.handshakeTimeoutMs);
    next = Math.min(
      next,
      this.#pingSentMs === undefined
        ? this.#lastInputMs + limits.keepAliveMs
        : this.#pingSentMs + limits.keepAliveTimeoutMs,
    );
    if (this.#drainMs !== undefined) {
      next = Math.min(next, this.#drainMs + limits.drainTimeoutMs);
      if (!this.#isLastGoAwayDone) {
        next = Math.min(next, this.#drainMs + LAST_GOAWAY_AFTER_MS);
      }
    } else if (openStreams === 0) {
      next = Math.min(next, this.#idleSinceMs + limits.idleTimeoutMs);
    }
    if (openStreams > 0) next = Math.min(next, this.#stallCheckMs + limits.sendStallMs);
    return next;
  }

  /** What is due at `nowMs`; each thing is told once. */
  onTick(
    nowMs: number,
    waitsForPeer: boolean,
    streams: ReadonlyMap<number, Http2Stream>,
    pendingBytes: number,
  ): DueWork {
    const limits = this.#limits;
    const stalled: Http2Stream[] = [];
    let failure: DueWork["failure"];
    if (waitsForPeer && nowMs >= this.#waitingSinceMs + limits.handshakeTimeoutMs) {
      failure = {
        code: ERROR.SETTINGS_TIMEOUT,
        message: "the rest of a handshake, frame or header block did not come",
      };
    }
    if (this.#pingSentMs !== undefined && nowMs >= this.#pingSentMs + limits.keepAliveTimeoutMs) {
      failure ??= { code: ERROR.NO_ERROR, message: "a PING was not answered" };
    }
    if (nowMs >= this.#stallCheckMs + limits.sendStallMs) {
      this.#stallCheckMs = nowMs;
      if (this.#didOutputWait && !this.#isOutputTaken) {
        failure ??= { code: ERROR.ENHANCE_YOUR_CALM, message: "the transport takes nothing" };
      }
      this.#didOutputWait = pendingBytes > 0;
      this.#isOutputTaken = false;
      for (const stream of streams.values()) {
        if (isSendingStalled(stream, limits.minSendBytes)) stalled.push(stream);
        else if (isReceivingStalled(stream, limits.minSendBytes)) stalled.push(stream);
        stream.stallMark = stream.queuedBytes > 0 ? stream.sentBytes : -1;
        stream.receiveMark = stream.keepsOthersWaiting ? stream.receivedBytes : -1;
      }
    }
    const keepAlive =
      this.#pingSentMs === undefined && nowMs >= this.#lastInputMs + limits.keepAliveMs;
    if (keepAlive) this.#pingSentMs = nowMs;
    const lastGoAway =
      this.#drainMs !== undefined &&
      !this.#isLastGoAwayDone &&
      nowMs >= this.#drainMs + LAST_GOAWAY_AFTER_MS;
    if (lastGoAway) this.#isLastGoAwayDone = true;
    return {
      failure,
      stalled,
      keepAlive,
      deadlines: nowMs >= this.earliestDeadlineMs,
      idle:
        this.#drainMs === undefined &&
        streams.size === 0 &&
        nowMs >= this.#idleSinceMs + limits.idleTimeoutMs,
      lastGoAway,
      drained: this.#drainMs !== undefined && nowMs >= this.#drainMs + limits.drainTimeoutMs,
    };
  }
}

function isSendingStalled(stream: Http2Stream, minBytes: number): boolean {
  const { queuedBytes, stallMark, sentBytes } = stream;
  return queuedBytes > 0 && stallMark >= 0 && sentBytes - stallMark < minBytes;
}

function isReceivingStalled(stream: Http2Stream, minBytes: number): boolean {
  const { receiveMark, receivedBytes, keepsOthersWaiting } = stream;
  return receiveMark >= 0 && receivedBytes - receiveMark < minBytes && keepsOthersWaiting;
}
