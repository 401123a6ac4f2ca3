import type { GrpcConnection } from "./grpc-connection.ts";
import { Http2Stream } from "./http2/stream.ts";
import { type MessageProblem, MessageReader, type MessageSink } from "./message-reader.ts";

/** What a call is in both roles: messages out with back-pressure, messages in with flow control. */
export abstract class GrpcStream extends Http2Stream implements MessageSink {
  deadlineMs: number = Infinity;
  protected readonly connection: GrpcConnection;
  protected readonly reader: MessageReader;
  /** Of the bytes that arrived: given back to the stream's window, and held by messages not yet consumed. */
  #returnedBytes = 0;
  #heldBytes = 0;
  #held: number[] | undefined;

  constructor(connection: GrpcConnection, id: number, sendWindowBytes: number) {
    super(id, sendWindowBytes, connection.limits.streamWindowBytes);
    this.connection = connection;
    this.reader = new MessageReader(this, connection.limits.maxMessageBytes, connection.assembly);
  }

  abstract readonly isOver: boolean;
  /** The deadline has passed. */
  abstract expire(): void;
  /** Whether windows open only for messages that were said to be consumed. */
  protected abstract readonly holdsWindow: boolean;
  protected abstract deliver(message: Uint8Array): void;
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
    this.#returnWindow();
  }

  onData(bytes: Uint8Array, start: number, end: number): void {
    if (this.isOver) return;
    const problem = this.reader.read(bytes, start, end);
    if (problem !== undefined) this.fail(problem);
    else this.#returnWindow();
  }

  onMessageRead(message: Uint8Array, wireBytes: number): void {
    if (this.holdsWindow) {
      // A message may be larger than the window; half of the window is enough to keep more from coming.
      const held = Math.min(wireBytes, this.connection.limits.streamWindowBytes / 2);
      (this.#held ??= []).push(held);
      this.#heldBytes += held;
      this.connection.withhold(held);
    }
    this.deliver(message);
  }

  /** Queues a message and tells whether more is welcome. */
  protected queueMessage(message: Uint8Array | readonly Uint8Array[]): boolean {
    let length = 0;
    if (message instanceof Uint8Array) length = message.length;
    else for (const piece of message) length += piece.length;
    this.connection.sendMessage(this, message, length);
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
  }

  #returnWindow(): void {
    if (this.isRemoteClosed) return;
    const half = this.connection.limits.streamWindowBytes / 2;
    const partial = this.holdsWindow ? Math.min(this.reader.partialBytes, half) : 0;
    const bytes = this.receivedBytes - this.#returnedBytes - this.#heldBytes - partial;
    if (bytes <= 0) return;
    this.#returnedBytes += bytes;
    this.connection.consume(this, bytes);
  }
}
