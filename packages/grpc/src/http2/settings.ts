import type { HpackEncoder } from "../hpack/encoder.ts";
import {
  DEFAULT_WINDOW_BYTES,
  ERROR,
  Http2ConnectionError,
  MAX_WINDOW_BYTES,
  MIN_MAX_FRAME_BYTES,
  SETTING,
} from "./protocol.ts";

/** What the other end told us of itself. */
export interface PeerSettings {
  maxConcurrentStreams: number;
  initialWindowBytes: number;
  maxFrameBytes: number;
  maxHeaderListBytes: number;
}

/** What holds before the other end says anything (RFC 9113, section 6.5.2). */
export function createPeerSettings(): PeerSettings {
  return {
    maxConcurrentStreams: Infinity,
    initialWindowBytes: DEFAULT_WINDOW_BYTES,
    maxFrameBytes: MIN_MAX_FRAME_BYTES,
    maxHeaderListBytes: Infinity,
  };
}

/**
 * Applies the payload of a SETTINGS frame, entry by entry.
 *
 * @throws {Http2ConnectionError} for a value outside of its range; unknown settings are ignored
 */
export function applySettings(
  settings: PeerSettings,
  encoder: HpackEncoder,
  bytes: Uint8Array,
  start: number,
  end: number,
  peerIsServer: boolean,
): void {
  for (let position = start; position < end; position += 6) {
    const id = ((bytes[position] as number) << 8) | (bytes[position + 1] as number);
    const value =
      (bytes[position + 2] as number) * 0x100_0000 +
      (((bytes[position + 3] as number) << 16) |
        ((bytes[position + 4] as number) << 8) |
        (bytes[position + 5] as number));
    switch (id) {
      case SETTING.HEADER_TABLE_SIZE:
        // At once, because the smallest of several values counts (RFC 7541, section 4.2).
        encoder.setPeerTableBytes(value);
        break;
      case SETTING.ENABLE_PUSH:
        if (value > 1 || (peerIsServer && value === 1)) {
          throw new Http2ConnectionError(ERROR.PROTOCOL_ERROR, `SETTINGS_ENABLE_PUSH ${value}`);
        }
        break;
      case SETTING.MAX_CONCURRENT_STREAMS:
        settings.maxConcurrentStreams = value;
        break;
      case SETTING.INITIAL_WINDOW_SIZE:
        if (value > MAX_WINDOW_BYTES) {
          throw new Http2ConnectionError(
            ERROR.FLOW_CONTROL_ERROR,
            `SETTINGS_INITIAL_WINDOW_SIZE ${value}`,
          );
        }
        settings.initialWindowBytes = value;
        break;
      case SETTING.MAX_FRAME_SIZE:
        if (value < MIN_MAX_FRAME_BYTES || value > 0xff_ffff) {
          throw new Http2ConnectionError(ERROR.PROTOCOL_ERROR, `SETTINGS_MAX_FRAME_SIZE ${value}`);
        }
        settings.maxFrameBytes = value;
        break;
      case SETTING.MAX_HEADER_LIST_SIZE:
        settings.maxHeaderListBytes = value;
        break;
      default:
    }
  }
}
