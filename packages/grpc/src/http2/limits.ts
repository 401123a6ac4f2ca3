/** What one connection may use and how it may behave. Sizes in bytes, times in milliseconds. */
export interface ConnectionLimits {
  /** Calls that may be open at once; more are answered RST_STREAM(REFUSED_STREAM). */
  readonly maxConcurrentStreams: number;
  /** What the other end may send on one stream before we have consumed it. */
  readonly streamWindowBytes: number;
  /** The same while the call has no memory of those that requests share; where none is shared it does not count. */
  readonly firstWindowBytes: number;
  /** What the other end may send on all streams before we have consumed it. */
  readonly connectionWindowBytes: number;
  /** The largest frame we take, 16 KiB to 16 MiB - 1; a larger one is FRAME_SIZE_ERROR. */
  readonly maxFrameBytes: number;
  /** HPACK's table for what we receive (at least 4096), and the most we use for what we send. */
  readonly headerTableBytes: number;
  /** The largest header list; a larger one ends its call with RESOURCE_EXHAUSTED. */
  readonly maxHeaderListBytes: number;
  /** The largest header block as it is sent, over HEADERS and CONTINUATION; above it the connection ends. */
  readonly maxHeaderBlockBytes: number;
  /** The largest message, compressed or not; a larger one ends its call with RESOURCE_EXHAUSTED. */
  readonly maxMessageBytes: number;
  /** What incomplete messages of all calls may take together; the call that asks for more ends with RESOURCE_EXHAUSTED. */
  readonly maxAssemblyBytes: number;
  /** Bytes of messages one call may queue before `sendMessage` returns false. */
  readonly sendQueueBytes: number;
  /** Output that is framed ahead of the transport; the rest waits in the queues of the calls. */
  readonly maxOutputBytes: number;
  /**
   * Answers to frames (PING, SETTINGS, RST_STREAM, WINDOW_UPDATE) that may wait for a transport that does not
   * take them; above it the connection ends with ENHANCE_YOUR_CALM.
   */
  readonly maxControlOutputBytes: number;
  /**
   * Frames that make work and carry nothing: PING, SETTINGS, PRIORITY, unknown types, empty DATA and CONTINUATION,
   * and windows opened by a few bytes while data waits for them. So many may come at once, and
   * {@link controlFramesPerSecond} go on for ever; above it the connection ends with ENHANCE_YOUR_CALM.
   */
  readonly controlFrameBurst: number;
  readonly controlFramesPerSecond: number;
  /**
   * Streams that came to nothing: cancelled by the other end, refused, or reset by us for its mistakes. So many
   * may come at once, and {@link failedStreamsPerSecond} go on for ever; above it the connection ends with
   * ENHANCE_YOUR_CALM ("rapid reset").
   */
  readonly failedStreamBurst: number;
  readonly failedStreamsPerSecond: number;
  /** How long preface and first SETTINGS, a header block, and the answer to our SETTINGS may take. */
  readonly handshakeTimeoutMs: number;
  /** A silent connection is asked with PING after this time… */
  readonly keepAliveMs: number;
  /** …and ends when the answer takes longer than this. */
  readonly keepAliveTimeoutMs: number;
  /** A connection without calls is drained after this time. */
  readonly idleTimeoutMs: number;
  /**
   * A call whose data waits ends with CANCEL when the other end takes less than {@link minSendBytes} in this time;
   * so does one that has memory of those that requests share, when the other end sends less.
   */
  readonly sendStallMs: number;
  readonly minSendBytes: number;
  /** How long the last calls may take after `drain()`. */
  readonly drainTimeoutMs: number;
}

const KIB = 1024;
const MIB = 1024 * KIB;

/** The limits of a connection whose owner sets none. */
export const DEFAULT_LIMITS: ConnectionLimits = {
  maxConcurrentStreams: 1000,
  streamWindowBytes: MIB,
  firstWindowBytes: 64 * KIB,
  connectionWindowBytes: 16 * MIB,
  maxFrameBytes: 64 * KIB,
  headerTableBytes: 16 * KIB,
  maxHeaderListBytes: 16 * KIB,
  maxHeaderBlockBytes: 64 * KIB,
  maxMessageBytes: 4 * MIB,
  maxAssemblyBytes: 64 * MIB,
  sendQueueBytes: 256 * KIB,
  maxOutputBytes: 512 * KIB,
  maxControlOutputBytes: 64 * KIB,
  controlFrameBurst: 2000,
  controlFramesPerSecond: 500,
  failedStreamBurst: 1000,
  failedStreamsPerSecond: 200,
  handshakeTimeoutMs: 10_000,
  keepAliveMs: 60_000,
  keepAliveTimeoutMs: 20_000,
  idleTimeoutMs: 900_000,
  sendStallMs: 60_000,
  minSendBytes: KIB,
  drainTimeoutMs: 60_000,
};
