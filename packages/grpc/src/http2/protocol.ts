/** Frame types of RFC 9113, section 6. */
export const FRAME = {
  DATA: 0,
  HEADERS: 1,
  PRIORITY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PUSH_PROMISE: 5,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
} as const;

/** Frame flags of RFC 9113, section 6. */
export const FLAG = { END_STREAM: 1, ACK: 1, END_HEADERS: 4, PADDED: 8, PRIORITY: 32 } as const;

/** Error codes of RFC 9113, section 7. */
export const ERROR = {
  NO_ERROR: 0,
  PROTOCOL_ERROR: 1,
  INTERNAL_ERROR: 2,
  FLOW_CONTROL_ERROR: 3,
  SETTINGS_TIMEOUT: 4,
  STREAM_CLOSED: 5,
  FRAME_SIZE_ERROR: 6,
  REFUSED_STREAM: 7,
  CANCEL: 8,
  COMPRESSION_ERROR: 9,
  ENHANCE_YOUR_CALM: 11,
} as const;

/** Settings of RFC 9113, section 6.5.2. */
export const SETTING = {
  HEADER_TABLE_SIZE: 1,
  ENABLE_PUSH: 2,
  MAX_CONCURRENT_STREAMS: 3,
  INITIAL_WINDOW_SIZE: 4,
  MAX_FRAME_SIZE: 5,
  MAX_HEADER_LIST_SIZE: 6,
} as const;

export const FRAME_HEADER_BYTES = 9;
export const DEFAULT_WINDOW_BYTES = 65_535;
export const MAX_WINDOW_BYTES = 0x7fff_ffff;
export const MIN_MAX_FRAME_BYTES = 16_384;
export const MAX_STREAM_ID = 0x7fff_ffff;

/** What a client says first (RFC 9113, section 3.4). */
export const PREFACE: Uint8Array = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** The whole connection must end: it is answered with GOAWAY and this code. */
export class Http2ConnectionError extends Error {
  override readonly name = "Http2ConnectionError";
  /** One of {@link ERROR}. */
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

export function protocolError(message: string): Http2ConnectionError {
  return new Http2ConnectionError(ERROR.PROTOCOL_ERROR, message);
}

/** @throws {Http2ConnectionError} unless a frame has the one length that its type may have */
export function requireLength(what: string, length: number, expected: number): void {
  if (length === expected) return;
  throw new Http2ConnectionError(
    ERROR.FRAME_SIZE_ERROR,
    `${what} of ${length} bytes instead of ${expected}`,
  );
}
