import type { Socket } from "node:net";
import { performance } from "node:perf_hooks";

import { openLoadSocket } from "./open-socket.ts";
import type { Recorder } from "./recorder.ts";
import type { LoadConnection, Target } from "./replay.ts";
import type { Ring } from "./ring.ts";

const HEAD_END = "\r\n\r\n";

/** Plays a ring of HTTP/1.1 requests on one connection, one after the other. */
export class Http1Connection implements LoadConnection {
  readonly #ring: Ring;
  readonly #recorder: Recorder;
  readonly #onIdle: () => void;
  readonly #socket: Socket;
  #left: number;
  #next = 0;
  #current = 0;
  #isBusy = false;
  #sentAtMs = 0;
  #head = "";
  #status = 0;
  #length = 0;
  /** Body bytes that are still to come; undefined before the head is whole. */
  #bodyLeft: number | undefined;

  constructor(
    target: Target,
    ring: Ring,
    options: { limit: number; recorder: Recorder; onIdle: () => void },
  ) {
    this.#ring = ring;
    this.#left = options.limit;
    this.#recorder = options.recorder;
    this.#onIdle = options.onIdle;
    this.#socket = openLoadSocket(target, {
      recorder: this.#recorder,
      read: (buffer, bytes) => this.#read(buffer, bytes),
      close: () => {
        if (this.#isBusy || this.#left > 0) this.#recorder.addWrong("the server closed");
        this.#left = 0;
        this.#isBusy = false;
        this.#onIdle();
      },
    });
  }

  start(): void {
    this.#send();
  }

  stop(): void {
    this.#left = 0;
    if (!this.#isBusy) this.#onIdle();
  }

  close(): void {
    this.#socket.removeAllListeners("close");
    this.#socket.destroy();
  }

  #send(): void {
    if (this.#left <= 0) return this.#onIdle();
    const { bytes, offsets, length } = this.#ring;
    this.#current = this.#next;
    this.#next = (this.#next + 1) % length;
    this.#left -= 1;
    this.#isBusy = true;
    this.#sentAtMs = performance.now();
    this.#socket.write(bytes.subarray(offsets[this.#current], offsets[this.#current + 1]));
  }

  #read(buffer: Buffer, count: number): void {
    if (this.#bodyLeft !== undefined) this.#bodyLeft -= count;
    else {
      this.#head += buffer.toString("latin1", 0, Math.min(count, 4096));
      const end = this.#head.indexOf(HEAD_END);
      if (end === -1) return;
      const before = this.#head.length - Math.min(count, 4096);
      this.#status = Number(this.#head.slice(9, 12));
      this.#length = Number(/content-length: *(\d+)/i.exec(this.#head)?.[1] ?? 0);
      this.#bodyLeft = this.#length - (before + count - end - HEAD_END.length);
      this.#head = "";
    }
    if (this.#bodyLeft <= 0) this.#endAnswer();
  }

  #endAnswer(): void {
    const [min, max] = [
      this.#ring.minBytes[this.#current] ?? 0,
      this.#ring.maxBytes[this.#current] ?? 0,
    ];
    const isOk = this.#status >= 200 && this.#status < 300;
    const length = isOk ? this.#length : -1;
    if (this.#bodyLeft !== 0 || length < min || length > max) {
      this.#recorder.addWrong(`status ${this.#status} with ${this.#length} bytes`);
    }
    this.#bodyLeft = undefined;
    this.#isBusy = false;
    this.#recorder.add(performance.now() - this.#sentAtMs, this.#length);
    this.#send();
  }
}
