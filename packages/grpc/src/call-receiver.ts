import type { HeaderList } from "./hpack/header-list.ts";
import type { KeptStatus } from "./kept-status.ts";
import type { Metadata } from "./metadata.ts";
import { GRPC_STATUS } from "./status.ts";

/** One call as its server sees it. Sends never throw because of the other end: after the call's end they do nothing. */
export interface ServerCall {
  /** `/package.Service/Method` */
  readonly path: string;
  readonly authority: string;
  /** The same object for header blocks that repeat byte for byte, so what is derived from it can be kept. */
  readonly headers: HeaderList;
  /** In the clock of the connection; Infinity without one. When it passes, the call is answered and cancelled. */
  readonly deadlineMs: number;
  /** Finished or cancelled. */
  readonly isOver: boolean;
  /** What it was finished with; undefined while it is open, and when it was cancelled. */
  readonly status: number | undefined;
  /** How much {@link sendMessage} takes before it returns false. */
  readonly writableBytes: number;
  /** The receiver's own; undefined at first. */
  state: unknown;
  /** The whole answer of a unary call: headers, one message, status OK. */
  respond(message: Uint8Array | readonly Uint8Array[]): void;
  /** Sends the headers before the first message, which sends them otherwise. */
  sendHeaders(metadata?: Metadata): void;
  /**
   * Sends a message, whole or in pieces. Pieces of 4 KiB and more go out without a copy and must not change.
   *
   * @param onSent Called when nothing reads the pieces any more: their memory may be used again. Never when the call or
   *   the connection ends before.
   * @returns false when enough waits: go on when `onDrain` comes. The message is taken all the same.
   */
  sendMessage(message: Uint8Array | readonly Uint8Array[], onSent?: () => void): boolean;
  /**
   * Sends bytes of messages with their prefixes, as they came from elsewhere; they may begin and end inside of one.
   * They must not change.
   *
   * @returns as {@link sendMessage}
   */
  sendBytes(bytes: Uint8Array): boolean;
  /** Ends the call, before the client has sent everything too. `message` is for people. */
  finish(status: number, message?: string, trailers?: Metadata): void;
  /** The same with a status that is given often: it costs no more than OK. */
  finishWith(kept: KeptStatus): void;
  /**
   * Keeps the memory of the request when the call ends, because its bytes are still in use: until the returned
   * function is called.
   */
  holdMemory(): () => void;
  /** With `manualConsume`: the oldest delivered messages (one by default) are dealt with; the client may send more. */
  consumed(messages?: number): void;
}

/** Why a call ended before it was finished: the client gave it up, its time was up, the connection broke. */
export type CancelReason = "reset" | "deadline" | "connection";

/** What happens on a call. The call is always passed, so one object can serve all calls of a method. */
export interface CallReceiver {
  /**
   * A view of the bytes that were received, or of room of its own; keep a copy if it is kept for long. Where requests
   * share memory it is gone when the call is over, unless {@link ServerCall.holdMemory} keeps it: do not answer with it.
   */
  onMessage(call: ServerCall, message: Uint8Array): void;
  /**
   * Instead of {@link onMessage}: what came, prefixes included, cut as it came, for whoever passes it on. Each piece
   * counts as a message for `consumed`. Whether the request ends between messages is the receiver's to know.
   */
  onBytes?(call: ServerCall, bytes: Uint8Array): void;
  /** The client has sent everything. */
  onHalfClose(call: ServerCall): void;
  /** Nothing more follows. Never after `finish`. */
  onCancel?(call: ServerCall, reason: CancelReason): void;
  onDrain?(call: ServerCall): void;
  /**
   * Give the flow-control window back only when `call.consumed` says so, instead of on delivery: a slow receiver
   * then holds one stream window and one message at most.
   */
  readonly manualConsume?: boolean;
  /** {@link onMessage} has done with a message when it returns: its memory is used again. */
  readonly keepsNothing?: boolean;
  /** With `manualConsume`: the most bytes that the request will have, when its first messages have told. */
  requestBytes?(call: ServerCall): number | undefined;
}

/**
 * A receiver for methods with one request message, called when the request is whole. Anything but one message is
 * answered INTERNAL. `call.state` is free for the handler.
 */
export function unary(handle: (call: ServerCall, request: Uint8Array) => void): CallReceiver {
  return {
    onMessage(call, message) {
      if (call.state === undefined) call.state = message;
      else call.finish(GRPC_STATUS.INTERNAL, "more than one message in a unary call");
    },
    onHalfClose(call) {
      const request = call.state as Uint8Array | undefined;
      if (request === undefined) {
        call.finish(GRPC_STATUS.INTERNAL, "no message in a unary call");
        return;
      }
      call.state = undefined;
      handle(call, request);
    },
  };
}
