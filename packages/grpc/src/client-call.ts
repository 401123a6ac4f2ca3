import type { HeaderList } from "./hpack/header-list.ts";
import type { Metadata } from "./metadata.ts";

/** What a call is started with. */
export interface CallStart {
  /** `/package.Service/Method` */
  readonly path: string;
  /** Host and port that the server is known by. */
  readonly authority: string;
  /** `http` by default. */
  readonly scheme?: "http" | "https";
  readonly metadata?: Metadata;
  /** Sent as grpc-timeout, and kept here too: then the call ends with DEADLINE_EXCEEDED, answered or not. */
  readonly timeoutMs?: number;
}

/** How a call ended. */
export interface CallEnd {
  /** One of `GRPC_STATUS`. */
  readonly status: number;
  readonly message: string;
  /** What came with the status; undefined when the server did not send one. */
  readonly trailers: HeaderList | undefined;
  /** The server has certainly not looked at the call: it may be repeated elsewhere, whatever it does. */
  readonly isUnprocessed: boolean;
}

/** One call as its client sees it. Sends never throw because of the other end: after the call's end they do nothing. */
export interface ClientCall {
  readonly isOver: boolean;
  /** How much {@link sendMessage} takes before it returns false. */
  readonly writableBytes: number;
  /** The receiver's own; undefined at first. */
  state: unknown;
  /** As {@link ServerCall.sendMessage}. */
  sendMessage(message: Uint8Array | readonly Uint8Array[]): boolean;
  /** As {@link ServerCall.sendBytes}. */
  sendBytes(bytes: Uint8Array): boolean;
  /** Everything is said. */
  halfClose(): void;
  /** Gives the call up; it ends with CANCELLED at once. */
  cancel(): void;
  /** As {@link ServerCall.consumed}. */
  consumed(messages?: number): void;
}

/** What happens on a call of ours. The call is always passed, so one object can serve many. */
export interface ClientReceiver {
  onHeaders?(call: ClientCall, headers: HeaderList): void;
  /** A view of the bytes that were received, or of room of its own; keep a copy if it is kept for long. */
  onMessage(call: ClientCall, message: Uint8Array): void;
  /** As {@link CallReceiver.onBytes}. An answer that may be compressed is not asked for then. */
  onBytes?(call: ClientCall, bytes: Uint8Array): void;
  /** Once for every call, and nothing more after it. */
  onEnd(call: ClientCall, end: CallEnd): void;
  onDrain?(call: ClientCall): void;
  /** As {@link CallReceiver.manualConsume}. */
  readonly manualConsume?: boolean;
}
