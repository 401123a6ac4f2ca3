import { gunzipSync } from "node:zlib";

import { freeMemory } from "./free-memory.ts";
import { GRPC_STATUS } from "./status.ts";

const PREFIX_BYTES = 5;
const FIRST_ROOM_BYTES = 16 * 1024;

/** Memory of incomplete messages, shared by the calls of one connection. */
export interface AssemblyBudget {
  usedBytes: number;
  readonly maxBytes: number;
}

/** Why a call cannot go on. */
export interface MessageProblem {
  readonly status: number;
  readonly message: string;
}

/** What a reader asks of its call. */
export interface MessageSink {
  /**
   * `wireBytes` is the message with its prefix, as it came. The message is a view of what was received, unless it comes
   * with `room`: memory of its own, for the sink to give back.
   */
  onMessageRead(message: Uint8Array, wireBytes: number, room: Buffer | undefined): void;
  /** Whether there is memory for a message that was unpacked to so many bytes. */
  hasRoomFor(unpackedBytes: number): boolean;
  /** Whether the call is over: nothing more is read then. */
  readonly isOver: boolean;
}

/**
 * Cuts DATA into length-prefixed messages. A message that arrives in one piece is passed on as a view; others are
 * gathered in room that grows with what arrives, never with what was only announced, unless it was paid for.
 */
export class MessageReader {
  readonly #sink: MessageSink;
  readonly #maxBytes: number;
  readonly #budget: AssemblyBudget;
  /** Whether messages may be compressed: grpc-encoding says so. */
  isGzip = false;
  #isPaidFor = false;
  /** Prefix bytes that came alone. */
  #prefix: Buffer | undefined;
  #prefixBytes = 0;
  /** The message that is being gathered. */
  #room: Buffer | undefined;
  #filled = 0;
  #length = -1;
  #isCompressed = false;

  constructor(sink: MessageSink, maxBytes: number, budget: AssemblyBudget) {
    this.#sink = sink;
    this.#maxBytes = maxBytes;
    this.#budget = budget;
  }

  /** Whether the stream may end here. */
  get isComplete(): boolean {
    return this.#length < 0 && this.#prefixBytes === 0;
  }

  /** The length of the message that is arriving; 0 between messages. */
  get messageBytes(): number {
    return Math.max(0, this.#length);
  }

  /** How much of an incomplete message has arrived. */
  get partialBytes(): number {
    return this.#filled;
  }

  /** @returns why the call must end, if it must */
  read(bytes: Uint8Array, start: number, end: number): MessageProblem | undefined {
    let position = start;
    while (position < end && !this.#sink.isOver) {
      if (this.#length < 0) {
        if (this.#prefixBytes === 0 && end - position >= PREFIX_BYTES) {
          const problem = this.#begin(bytes, position);
          if (problem !== undefined) return problem;
          position += PREFIX_BYTES;
        } else {
          this.#prefix ??= Buffer.allocUnsafe(PREFIX_BYTES);
          this.#prefix[this.#prefixBytes++] = bytes[position++] as number;
          if (this.#prefixBytes < PREFIX_BYTES) continue;
          this.#prefixBytes = 0;
          const problem = this.#begin(this.#prefix, 0);
          if (problem !== undefined) return problem;
        }
      }
      const length = this.#length;
      if (this.#filled === 0 && end - position >= length) {
        this.#length = -1;
        const message = bytes.subarray(position, position + length);
        const problem = this.#deliver(message, length, undefined);
        if (problem !== undefined) return problem;
        position += length;
        continue;
      }
      if (position === end) return undefined;
      const to = Math.min(end, position + length - this.#filled);
      if (!this.#gather(bytes, position, to)) {
        return {
          status: GRPC_STATUS.RESOURCE_EXHAUSTED,
          message: "too many incomplete messages on this connection",
        };
      }
      position = to;
      if (this.#filled === length) {
        const room = this.#letGo();
        this.#length = -1;
        const problem = this.#deliver(room.subarray(0, length), length, room);
        if (problem !== undefined) return problem;
      }
    }
    return undefined;
  }

  /** There is memory for all of every message from now on, wherever it comes from. */
  payFor(): void {
    if (this.#room !== undefined && !this.#isPaidFor) this.#budget.usedBytes -= this.#room.length;
    this.#isPaidFor = true;
  }

  /** Gives the memory of an incomplete message back; the call is over. */
  release(): void {
    if (this.#room !== undefined) freeMemory(this.#letGo());
  }

  #letGo(): Buffer {
    const room = this.#room as Buffer;
    if (!this.#isPaidFor) this.#budget.usedBytes -= room.length;
    this.#room = undefined;
    this.#filled = 0;
    return room;
  }

  #begin(bytes: Uint8Array, at: number): MessageProblem | undefined {
    const flag = bytes[at] as number;
    const length =
      (bytes[at + 1] as number) * 0x100_0000 +
      (((bytes[at + 2] as number) << 16) |
        ((bytes[at + 3] as number) << 8) |
        (bytes[at + 4] as number));
    if (flag > 1) {
      return { status: GRPC_STATUS.INTERNAL, message: `a message with the unknown flag ${flag}` };
    }
    if (flag === 1 && !this.isGzip) {
      return {
        status: GRPC_STATUS.INTERNAL,
        message: "a compressed message in a call that names no grpc-encoding",
      };
    }
    if (length > this.#maxBytes) return this.#tooLarge(`a message of ${length} bytes`);
    this.#isCompressed = flag === 1;
    this.#length = length;
    return undefined;
  }

  #gather(bytes: Uint8Array, start: number, end: number): boolean {
    const needed = this.#filled + end - start;
    let room = this.#room;
    if (room === undefined || room.length < needed) {
      const size = this.#isPaidFor
        ? this.#length
        : Math.min(this.#length, Math.max(FIRST_ROOM_BYTES, needed, (room?.length ?? 0) * 4));
      if (!this.#isPaidFor && !this.#charge(size - (room?.length ?? 0))) return false;
      const larger = Buffer.allocUnsafe(size);
      if (room !== undefined) {
        larger.set(room.subarray(0, this.#filled));
        freeMemory(room);
      }
      this.#room = larger;
      room = larger;
    }
    room.set(bytes.subarray(start, end), this.#filled);
    this.#filled = needed;
    return true;
  }

  #charge(bytes: number): boolean {
    if (this.#budget.usedBytes + bytes > this.#budget.maxBytes) return false;
    this.#budget.usedBytes += bytes;
    return true;
  }

  #deliver(
    message: Uint8Array,
    length: number,
    room: Buffer | undefined,
  ): MessageProblem | undefined {
    if (!this.#isCompressed) {
      this.#sink.onMessageRead(message, length + PREFIX_BYTES, room);
      return undefined;
    }
    let plain: Buffer;
    try {
      plain = gunzipSync(message, { maxOutputLength: Math.max(1, this.#maxBytes) });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE") {
        return this.#tooLarge("a message that decompresses to more");
      }
      return { status: GRPC_STATUS.INTERNAL, message: "a message that is not gzip" };
    }
    if (!this.#sink.hasRoomFor(plain.length)) {
      return { status: GRPC_STATUS.UNAVAILABLE, message: "no memory to unpack a message just now" };
    }
    if (room !== undefined) freeMemory(room);
    this.#sink.onMessageRead(plain, length + PREFIX_BYTES, plain);
    return undefined;
  }

  #tooLarge(what: string): MessageProblem {
    return {
      status: GRPC_STATUS.RESOURCE_EXHAUSTED,
      message: `${what}; the limit is ${this.#maxBytes}`,
    };
  }
}
