/** Frames of HTTP/2 (RFC 9113) as they are laid out beforehand, with a stream identifier to be put in later. */

export const FRAME = {
  data: 0,
  headers: 1,
  resetStream: 3,
  settings: 4,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
} as const;
export const FLAG = { endStream: 1, ack: 1, endHeaders: 4 } as const;
export const FRAME_HEADER_BYTES = 9;
export const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
/** What every receiver takes unless it says otherwise. */
export const MAX_FRAME_BYTES = 16_384;
export const MAX_WINDOW = 2 ** 31 - 1;
export const DEFAULT_WINDOW = 65_535;

export function encodeFrame(
  type: number,
  flags: number,
  stream: number,
  payload: Uint8Array,
): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + payload.length);
  frame.writeUIntBE(payload.length, 0, 3);
  frame[3] = type;
  frame[4] = flags;
  frame.writeUInt32BE(stream, 5);
  frame.set(payload, FRAME_HEADER_BYTES);
  return frame;
}

export function encodeWindowUpdate(stream: number, increment: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(increment);
  return encodeFrame(FRAME.windowUpdate, 0, stream, payload);
}

/** Settings by number, as in RFC 9113, section 6.5.2. */
export function encodeSettings(settings: Readonly<Record<number, number>>): Buffer {
  const entries = Object.entries(settings).map(([name, value]) => {
    const entry = Buffer.alloc(6);
    entry.writeUInt16BE(Number(name));
    entry.writeUInt32BE(value, 2);
    return entry;
  });
  return encodeFrame(FRAME.settings, 0, 0, Buffer.concat(entries));
}

/**
 * The header block of a gRPC call. It uses the static table and literals only (RFC 7541), so it means the same
 * wherever it stands on a connection.
 */
export function encodeCallHeaders(path: string, authority: string, token?: string): Buffer {
  return Buffer.concat([
    Buffer.from([0x83, 0x86, 0x04]),
    literal(path),
    Buffer.from([0x01]),
    literal(authority),
    Buffer.from([0x0f, 0x10]),
    literal("application/grpc"),
    Buffer.from([0x00]),
    literal("te"),
    literal("trailers"),
    ...(token === undefined ? [] : [Buffer.from([0x0f, 0x08]), literal(`Bearer ${token}`)]),
  ]);
}

/**
 * A token for the header block of a connection on which nothing else is put into HPACK's table: in full and to be
 * remembered, or as a reference to the one remembered last.
 */
export function encodeTableToken(token: string | undefined): Buffer {
  return token === undefined
    ? Buffer.from([0xbe])
    : Buffer.concat([Buffer.from([0x57]), literal(`Bearer ${token}`)]);
}

/** The header block of an answer without a table. */
export function encodeAnswerHeaders(fields: readonly (readonly [string, string])[]): Buffer {
  const others = fields.flatMap(([name, value]) => [
    Buffer.from([0x00]),
    literal(name),
    literal(value),
  ]);
  return Buffer.concat(others);
}

function literal(text: string): Buffer {
  const value = Buffer.from(text);
  return Buffer.concat([encodeLength(value.length), value]);
}

/** An integer with a prefix of seven bits. */
function encodeLength(length: number): Buffer {
  if (length < 127) return Buffer.from([length]);
  const bytes = [127];
  let rest = length - 127;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.from([...bytes, rest]);
}

/** Messages of one call, each behind its five bytes. */
export function encodeGrpcBody(messages: readonly Uint8Array[]): Buffer {
  return Buffer.concat(
    messages.flatMap((message) => {
      const prefix = Buffer.alloc(5);
      prefix.writeUInt32BE(message.length, 1);
      return [prefix, message];
    }),
  );
}
