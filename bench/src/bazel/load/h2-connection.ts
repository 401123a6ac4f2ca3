import type { Socket } from "node:net";
import { performance } from "node:perf_hooks";

import {
  DEFAULT_WINDOW,
  encodeFrame,
  encodeSettings,
  encodeWindowUpdate,
  FLAG,
  FRAME,
  FRAME_HEADER_BYTES,
  MAX_WINDOW,
  PREFACE,
} from "./frames.ts";
import { openLoadSocket } from "./open-socket.ts";
import type { Recorder } from "./recorder.ts";
import type { LoadConnection, Target } from "./replay.ts";
import { frameBytes, type Ring, setStream } from "./ring.ts";

/** Calls whose state is kept at once; those in flight lie within this many of each other. */
const SLOTS = 2 ** 16;
const SETTINGS_INITIAL_WINDOW_SIZE = 4;
const SETTINGS_ENABLE_PUSH = 2;
/** How much may come in before the peer is told that there is room again. */
const REFILL_BYTES = 2 ** 29;

/** Plays a ring of calls on one HTTP/2 connection, `depth` of them at once. */
export class H2Connection implements LoadConnection {
  readonly #ring: Ring;
  readonly #depth: number;
  readonly #recorder: Recorder;
  readonly #onIdle: () => void;
  readonly #socket: Socket;
  readonly #sentAtMs = new Float64Array(SLOTS);
  readonly #request = new Int32Array(SLOTS);
  readonly #received = new Float64Array(SLOTS);
  #left: number;
  #next = 0;
  #stream = 1;
  #inFlight = 0;
  /** What the peer still takes. */
  #window = DEFAULT_WINDOW;
  #initialWindow = DEFAULT_WINDOW;
  #consumed = 0;
  /** A request that goes out frame by frame, because it does not fit the windows at once. */
  #partial: { at: number; end: number; stream: number; window: number } | undefined;
  readonly #header = Buffer.alloc(FRAME_HEADER_BYTES);
  #headerBytes = 0;
  #payloadLeft = 0;
  #payload: Buffer[] | undefined;

  constructor(
    target: Target,
    ring: Ring,
    options: { depth: number; limit: number; recorder: Recorder; onIdle: () => void },
  ) {
    this.#ring = ring;
    this.#depth = options.depth;
    this.#left = options.limit;
    this.#recorder = options.recorder;
    this.#onIdle = options.onIdle;
    this.#socket = openLoadSocket(target, {
      recorder: this.#recorder,
      read: (buffer, bytes) => this.#read(buffer, bytes),
      close: () => this.#end(),
    });
  }

  start(): void {
    const settings = { [SETTINGS_ENABLE_PUSH]: 0, [SETTINGS_INITIAL_WINDOW_SIZE]: MAX_WINDOW };
    this.#socket.write(PREFACE);
    this.#socket.write(encodeSettings(settings));
    this.#socket.write(encodeWindowUpdate(0, MAX_WINDOW - DEFAULT_WINDOW));
    this.#send();
  }

  stop(): void {
    this.#left = 0;
    if (this.#inFlight === 0) this.#onIdle();
  }

  close(): void {
    this.#socket.removeAllListeners("close");
    this.#socket.destroy();
  }

  #end(): void {
    if (this.#inFlight > 0 || this.#left > 0) {
      this.#recorder.addWrong("the server closed the connection");
    }
    this.#left = 0;
    this.#inFlight = 0;
    this.#onIdle();
  }

  #send(): void {
    if (this.#partial !== undefined && !this.#sendPartial()) return;
    const ring = this.#ring;
    const nowMs = performance.now();
    let start = -1;
    let end = -1;
    while (this.#inFlight < this.#depth && this.#left > 0) {
      const index = this.#next;
      const body = ring.bodyBytes[index] ?? 0;
      const fits = body <= this.#window && body <= this.#initialWindow;
      this.#begin(index, nowMs);
      if (!fits) {
        if (start !== -1) this.#socket.write(ring.bytes.subarray(start, end));
        start = -1;
        this.#partial = {
          at: ring.offsets[index] ?? 0,
          end: ring.offsets[index + 1] ?? 0,
          stream: this.#stream - 2,
          window: this.#initialWindow,
        };
        if (!this.#sendPartial()) return;
        continue;
      }
      this.#window -= body;
      if (start === -1) start = ring.offsets[index] ?? 0;
      end = ring.offsets[index + 1] ?? 0;
      if (this.#next === 0) {
        this.#socket.write(ring.bytes.subarray(start, end));
        start = -1;
      }
    }
    if (start !== -1) this.#socket.write(ring.bytes.subarray(start, end));
  }

  #begin(index: number, nowMs: number): void {
    const slot = (this.#stream >>> 1) & (SLOTS - 1);
    setStream(this.#ring, index, this.#stream);
    this.#sentAtMs[slot] = nowMs;
    this.#request[slot] = index;
    this.#received[slot] = 0;
    this.#stream += 2;
    this.#inFlight += 1;
    this.#left -= 1;
    this.#next = index + 1 === this.#ring.length ? 0 : index + 1;
  }

  /** @returns whether all of it is out */
  #sendPartial(): boolean {
    const partial = this.#partial;
    if (partial === undefined) return true;
    const { bytes } = this.#ring;
    const start = partial.at;
    while (partial.at < partial.end) {
      const length = frameBytes(bytes, partial.at);
      const counted = bytes[partial.at + 3] === FRAME.data ? length - FRAME_HEADER_BYTES : 0;
      if (counted > this.#window || counted > partial.window) break;
      this.#window -= counted;
      partial.window -= counted;
      partial.at += length;
    }
    if (partial.at > start) this.#socket.write(bytes.subarray(start, partial.at));
    if (partial.at < partial.end) return false;
    this.#partial = undefined;
    return true;
  }

  #read(buffer: Buffer, count: number): void {
    const nowMs = performance.now();
    let at = 0;
    while (at < count) {
      if (this.#payloadLeft > 0) {
        const take = Math.min(this.#payloadLeft, count - at);
        this.#payload?.push(Buffer.from(buffer.subarray(at, at + take)));
        this.#payloadLeft -= take;
        at += take;
        if (this.#payloadLeft === 0) this.#endFrame(nowMs);
        continue;
      }
      if (this.#headerBytes === 0 && count - at >= FRAME_HEADER_BYTES) {
        for (let i = 0; i < FRAME_HEADER_BYTES; i += 1) this.#header[i] = buffer[at + i] ?? 0;
        at += FRAME_HEADER_BYTES;
      } else {
        while (this.#headerBytes < FRAME_HEADER_BYTES && at < count) {
          this.#header[this.#headerBytes] = buffer[at] ?? 0;
          this.#headerBytes += 1;
          at += 1;
        }
        if (this.#headerBytes < FRAME_HEADER_BYTES) break;
        this.#headerBytes = 0;
      }
      this.#beginFrame(nowMs);
    }
    if (this.#left > 0 || this.#partial !== undefined) this.#send();
  }

  #beginFrame(nowMs: number): void {
    const header = this.#header;
    const length = frameBytes(header, 0) - FRAME_HEADER_BYTES;
    const type = header[3] ?? 0;
    this.#payloadLeft = length;
    if (type === FRAME.data) {
      const slot = (streamOf(header) >>> 1) & (SLOTS - 1);
      this.#received[slot] = (this.#received[slot] ?? 0) + length;
      this.#consumed += length;
      if (this.#consumed >= REFILL_BYTES) {
        this.#socket.write(encodeWindowUpdate(0, this.#consumed));
        this.#consumed = 0;
      }
    }
    this.#payload = type === FRAME.data || type === FRAME.headers ? undefined : [];
    if (length === 0) this.#endFrame(nowMs);
  }

  #endFrame(nowMs: number): void {
    const header = this.#header;
    const [type, flags] = [header[3] ?? 0, header[4] ?? 0];
    if (type === FRAME.data || type === FRAME.headers) {
      if ((flags & FLAG.endStream) !== 0) this.#endCall(streamOf(header), nowMs);
      return;
    }
    const payload = Buffer.concat(this.#payload ?? []);
    this.#payload = undefined;
    if (type === FRAME.windowUpdate) this.#widen(streamOf(header), payload.readUInt32BE());
    else if (type === FRAME.settings && (flags & FLAG.ack) === 0) this.#applySettings(payload);
    else if (type === FRAME.ping && (flags & FLAG.ack) === 0) {
      this.#socket.write(encodeFrame(FRAME.ping, FLAG.ack, 0, payload));
    } else if (type === FRAME.resetStream && payload.readUInt32BE() !== 0) {
      this.#recorder.addWrong(`a call was reset with ${payload.readUInt32BE()}`);
      this.#inFlight -= 1;
      if (this.#partial?.stream === streamOf(header)) this.#partial = undefined;
    } else if (type === FRAME.goAway) {
      this.#recorder.addWrong(`the server went away: ${payload.subarray(8).toString("latin1")}`);
    }
  }

  #applySettings(payload: Buffer): void {
    for (let at = 0; at + 6 <= payload.length; at += 6) {
      if (payload.readUInt16BE(at) !== SETTINGS_INITIAL_WINDOW_SIZE) continue;
      const window = payload.readUInt32BE(at + 2);
      if (this.#partial !== undefined) this.#partial.window += window - this.#initialWindow;
      this.#initialWindow = window;
    }
    this.#socket.write(encodeFrame(FRAME.settings, FLAG.ack, 0, Buffer.alloc(0)));
  }

  #widen(stream: number, increment: number): void {
    if (stream === 0) this.#window += increment;
    else if (stream === this.#partial?.stream) this.#partial.window += increment;
  }

  #endCall(stream: number, nowMs: number): void {
    const slot = (stream >>> 1) & (SLOTS - 1);
    const index = this.#request[slot] ?? 0;
    const received = this.#received[slot] ?? 0;
    const [min, max] = [this.#ring.minBytes[index] ?? 0, this.#ring.maxBytes[index] ?? 0];
    if (received < min || received > max) {
      this.#recorder.addWrong(`${received} bytes instead of ${min} to ${max}`);
    }
    if (this.#partial?.stream === stream) this.#partial = undefined;
    this.#recorder.add(nowMs - (this.#sentAtMs[slot] ?? 0), received);
    this.#inFlight -= 1;
    if (this.#inFlight === 0 && this.#left <= 0) this.#onIdle();
  }
}

function streamOf(header: Buffer): number {
  return header.readUInt32BE(5) & 0x7fff_ffff;
}
