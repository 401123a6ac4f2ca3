import { freeMemory } from "./free-memory.ts";
import type { GrpcConnection } from "./grpc-connection.ts";
import { Http2Stream } from "./http2/stream.ts";
import { type MessageProblem, MessageReader, type MessageSink } from "./message-reader.ts";
import type { MemoryLease, MemoryWish } from "./request-memory.ts";

/** What a call is in both roles: messages out with back-pressure, messages in with flow control. */
export abstract class GrpcStream extends Http2Stream implements MessageSink {
  deadlineMs: number = Infinity;
  protected readonly connection: GrpcConnection;
  protected readonly reader: MessageReader;
  /** Of messages that were delivered and not yet consumed. */
  #heldBytes = 0;
  #held: number[] | undefined;
  /** What others may share with this call, asked for when its first window does not do. */
  #lease: MemoryLease | undefined;
  /** Memory of messages that the lease pays for. */
  #rooms: Buffer[] | undefined;

  constructor(connection: GrpcConnection, id: number, sendWindowBytes: number) {
    super(id, sendWindowBytes, connection.firstWindowBytes);
    this.connection = connection;
    this.reader = new MessageReader(this, connection.limits.maxMessageBytes, connection.assembly);
  }

  abstract readonly isOver: boolean;
  /** The deadline has passed. */
  abstract expire(): void;
  /** Whether windows open only for messages that were said to be consumed. */
  protected abstract readonly holdsWindow: boolean;
  /** Whether the request's bytes are in use although the call is over. */
  protected abstract readonly holdsMemory: boolean;
  /** The most bytes that the other end will send, as far as is known. */
  protected abstract readonly expectedRequestBytes: number;
  protected abstract askMemory(wish: MemoryWish, onGranted: () => void): MemoryLease | undefined;
  protected abstract deliver(message: Uint8Array): void;
  /** Whether its receiver takes bytes as they come; {@link deliver} gets them then. */
  protected abstract readonly takesBytes: boolean;
  /** Whether its receiver has done with a message when it returns. */
  protected abstract readonly keepsNothing: boolean;
  protected abstract fail(problem: MessageProblem): void;

  get writableBytes(): number {
    if (this.isOver) return 0;
    return Math.max(0, this.connection.limits.sendQueueBytes - this.queuedBytes);
  }

  consumed(messages = 1): void {
    if (this.#held === undefined || this.isOver) return;
    let bytes = 0;
    for (const held of this.#held.splice(0, messages)) bytes += held;
    this.#heldBytes -= bytes;
    this.connection.withhold(-bytes);
    this.#openWindow();
  }

  get keepsOthersWaiting(): boolean {
    const hasMemory = this.#lease !== undefined && this.#lease.sizeBytes > 0;
    return hasMemory && !this.isRemoteClosed && this.receiveWindowBytes > 0;
  }

  onData(bytes: Uint8Array, start: number, end: number): void {
    if (this.isOver) return;
    if (this.takesBytes) {
      this.onMessageRead(bytes.subarray(start, end), end - start, undefined);
      return;
    }
    const problem = this.reader.read(bytes, start, end);
    if (problem !== undefined) this.fail(problem);
  }

  onDataFrame(): void {
    if (!this.isOver) this.#openWindow();
  }

  /** The other end could not know that it has to wait for memory. */
  hasRoomFor(unpackedBytes: number): boolean {
    const { memory, firstWindowBytes } = this.connection;
    const isThere = unpackedBytes <= Math.max(firstWindowBytes, this.#lease?.sizeBytes ?? 0);
    if (memory === undefined || isThere) return true;
    this.#lease?.release();
    this.#lease = this.askMemory({ leastBytes: unpackedBytes, mostBytes: unpackedBytes }, () => {});
    return this.#lease !== undefined && this.#lease.sizeBytes > 0;
  }

  onMessageRead(message: Uint8Array, wireBytes: number, room: Buffer | undefined): void {
    if (this.holdsWindow) {
      // A message may be larger than the window; half of the window is enough to keep more from coming.
      const held = Math.min(wireBytes, this.connection.limits.streamWindowBytes / 2);
      (this.#held ??= []).push(held);
      this.#heldBytes += held;
      this.connection.withhold(held);
    }
    this.deliver(message);
    if (room === undefined) {
      if (!this.keepsNothing) this.connection.isInputKept = true;
    } else if (this.keepsNothing) freeMemory(room);
    // Of a call of many messages nobody knows which are still in use.
    else if (!this.holdsWindow && this.#lease !== undefined) (this.#rooms ??= []).push(room);
  }

  /** Queues a message and tells whether more is welcome. */
  protected queueMessage(
    message: Uint8Array | readonly Uint8Array[],
    onSent?: () => void,
  ): boolean {
    let length = 0;
    if (message instanceof Uint8Array) length = message.length;
    else for (const piece of message) length += piece.length;
    this.connection.sendMessage(this, message, length);
    if (onSent !== undefined) this.connection.markSent(this, onSent);
    return this.#mayQueueMore();
  }

  /** The same with bytes that have their prefixes. */
  protected queueBytes(bytes: Uint8Array): boolean {
    this.connection.sendBytes(this, bytes);
    return this.#mayQueueMore();
  }

  #mayQueueMore(): boolean {
    const isEnough = this.queuedBytes >= this.connection.limits.sendQueueBytes;
    if (isEnough) this.owesDrain = true;
    return !isEnough;
  }

  /** Gives memory and window back; the call is over. */
  protected letGo(): void {
    this.reader.release();
    if (this.#heldBytes > 0) this.connection.withhold(-this.#heldBytes);
    this.#heldBytes = 0;
    this.#held = undefined;
    this.releaseMemory();
  }

  /** Gives shared memory back, unless it is still in use. */
  protected releaseMemory(): void {
    if (this.holdsMemory) return;
    for (const room of this.#rooms ?? []) freeMemory(room);
    this.#rooms = undefined;
    this.#lease?.release();
    this.#lease = undefined;
  }

  protected get hasMemory(): boolean {
    return this.#lease !== undefined;
  }

  /** Lets the other end send what there is memory for. */
  #openWindow(): void {
    if (this.isRemoteClosed) return;
    const missing = this.reader.messageBytes - this.reader.partialBytes;
    const windowBytes = this.#windowBytes(missing);
    const open = windowBytes - this.receiveWindowBytes;
    const isNeeded = missing > this.receiveWindowBytes && missing <= windowBytes;
    if (open > 0 && (isNeeded || open * 2 >= this.connection.firstWindowBytes)) {
      this.connection.openStreamWindow(this, open);
    }
  }

  /** What the other end may send now, when so many bytes are missing of a message that has begun. */
  #windowBytes(missing: number): number {
    const { connection, holdsWindow, reader } = this;
    const { firstWindowBytes } = connection;
    const taken = holdsWindow ? this.#heldBytes + reader.partialBytes : 0;
    if (connection.memory === undefined) {
      return Math.max(holdsWindow ? missing : 0, firstWindowBytes - taken);
    }
    const memoryBytes = this.#lease?.sizeBytes ?? 0;
    if (memoryBytes > 0) {
      // The other half is for what its receiver makes of it.
      return Math.max(missing, firstWindowBytes - taken, memoryBytes / 2 - taken);
    }
    const isShort = holdsWindow && this.receiveWindowBytes * 2 < firstWindowBytes;
    if (this.#lease === undefined && (isShort || missing > this.receiveWindowBytes)) {
      if (this.#ask()) return this.#windowBytes(missing);
    }
    // Without memory of its own a call has its first window, and a long one just once.
    return holdsWindow ? 0 : firstWindowBytes - reader.partialBytes;
  }

  /** Asks for memory, once. @returns whether it is there */
  #ask(): boolean {
    const { messageBytes } = this.reader;
    const { streamWindowBytes } = this.connection.limits;
    const expected = this.holdsWindow ? this.expectedRequestBytes : 0;
    this.#lease = this.askMemory(
      {
        leastBytes: Math.max(messageBytes, Math.min(expected, streamWindowBytes / 2)),
        mostBytes: Math.max(messageBytes, Math.min(expected, streamWindowBytes)),
      },
      () => {
        this.reader.payFor();
        this.#openWindow();
      },
    );
    const isThere = this.#lease !== undefined && this.#lease.sizeBytes > 0;
    if (isThere) this.reader.payFor();
    return isThere;
  }
}
