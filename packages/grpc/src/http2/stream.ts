import type { FieldList } from "../hpack/encoder.ts";
import type { HeaderList } from "../hpack/header-list.ts";
import type { SentMark } from "./output-buffer.ts";

/** One stream of a connection: its state and what waits to be sent on it. The layer above says what events mean. */
export abstract class Http2Stream {
  readonly id: number;
  /** What we may still send before the other end opens its window; negative after it shrank it. */
  sendWindowBytes: number;
  /** What the other end may still send. */
  receiveWindowBytes: number;
  /** The other end sent END_STREAM. */
  isRemoteClosed = false;
  /** We sent END_STREAM or RST_STREAM, or received RST_STREAM: nothing more is sent. */
  isLocalClosed = false;
  /** content-length, -1 without one, and what came of it. */
  expectedBytes = -1;
  receivedBytes = 0;
  /** Pieces that wait, and who is told when those before it are written; the first begins at {@link queueOffset}. */
  queue: (Uint8Array | SentMark)[] = NOTHING;
  queueOffset = 0;
  queuedBytes = 0;
  sentBytes = 0;
  /** {@link sentBytes}, and {@link receivedBytes}, when they were last looked at for a stall. */
  stallMark = -1;
  receiveMark = -1;
  /** Whether the scheduler has this stream in its line. */
  isInLine = false;
  /** What follows when the queue is empty: trailers, or END_STREAM alone. */
  trailers: FieldList | undefined;
  endsWithQueue = false;
  /** A send was answered "enough for now"; {@link onDrain} is owed. */
  owesDrain = false;

  constructor(id: number, sendWindowBytes: number, receiveWindowBytes: number) {
    this.id = id;
    this.sendWindowBytes = sendWindowBytes;
    this.receiveWindowBytes = receiveWindowBytes;
  }

  /** A further header block: a response's head, or trailers. */
  abstract onHeaders(list: HeaderList, isEnd: boolean): void;
  abstract onData(bytes: Uint8Array, start: number, end: number): void;
  /** A DATA frame ended, and more are to come. */
  abstract onDataFrame(): void;
  /** END_STREAM arrived, after everything else. */
  abstract onEnd(): void;
  /** The stream is over before its time; `reason` says why. */
  abstract onAbort(reason: "reset" | "connection", code: number): void;
  abstract onDrain(): void;
  /** Whether others wait for what the other end may send now. */
  abstract readonly keepsOthersWaiting: boolean;
}

const NOTHING: never[] = [];

/** Whether content-length and DATA disagree (RFC 9113, section 8.1.1). */
export function isLengthWrong(stream: Http2Stream, isEnd: boolean): boolean {
  if (stream.expectedBytes < 0) return false;
  return isEnd
    ? stream.receivedBytes !== stream.expectedBytes
    : stream.receivedBytes > stream.expectedBytes;
}
