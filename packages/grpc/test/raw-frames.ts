import { HpackDecoder } from "../src/hpack/decoder.ts";
import { type FieldList, HpackEncoder } from "../src/hpack/encoder.ts";
import { ERROR, FLAG, FRAME, PREFACE } from "../src/http2/protocol.ts";

/** A frame as it was received, with the fields of its header block or the words of its error. */
export interface RawFrame {
  readonly type: string;
  readonly streamId: number;
  readonly flags: number;
  readonly payload: Buffer;
  /** HEADERS: its fields. */
  readonly headers?: Record<string, string>;
  /** RST_STREAM and GOAWAY: the name of the code. */
  readonly error?: string;
  /** GOAWAY: what it says for people. */
  readonly message?: string;
}

const TYPE_NAMES = Object.keys(FRAME);

/** Builds one frame, right or wrong. */
export function frame(
  type: number,
  flags: number,
  streamId: number,
  payload: Uint8Array | string = "",
): Buffer {
  const bytes = Buffer.from(payload as string, "latin1");
  const header = Buffer.alloc(9);
  header.writeUIntBE(bytes.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(streamId, 5);
  return Buffer.concat([header, bytes]);
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function settings(...entries: ReadonlyArray<readonly [id: number, value: number]>): Buffer {
  return Buffer.concat(
    entries.map(([id, value]) => Buffer.concat([Buffer.from([id >> 8, id]), uint32(value)])),
  );
}

/** A gRPC message with its prefix. */
export function message(body: Uint8Array | string, flag = 0): Buffer {
  const bytes = Buffer.from(body as string, "latin1");
  return Buffer.concat([Buffer.from([flag]), uint32(bytes.length), bytes]);
}

/** What a client says first. */
export const HELLO: Buffer = Buffer.concat([
  PREFACE,
  frame(FRAME.SETTINGS, 0, 0),
  frame(FRAME.SETTINGS, FLAG.ACK, 0),
]);

/** The fields of a call that is all right. */
export function callFields(path = "/test.Echo/Unary", ...more: FieldList): FieldList {
  return [
    [":method", "POST"],
    [":scheme", "http"],
    [":path", path],
    [":authority", "test"],
    ["content-type", "application/grpc"],
    ["te", "trailers"],
    ...more,
  ];
}

/** Encodes header blocks as one client would. */
export class BlockWriter {
  readonly #encoder = new HpackEncoder(4096);

  block(fields: FieldList): Buffer {
    return this.#encoder.encode(fields);
  }

  headers(streamId: number, fields: FieldList, flags: number = FLAG.END_HEADERS): Buffer {
    return frame(FRAME.HEADERS, flags, streamId, this.block(fields));
  }

  /** A whole unary call. */
  call(streamId: number, body: Uint8Array | string = "hello", path?: string): Buffer {
    const bytes = message(body);
    const frames = [this.headers(streamId, callFields(path))];
    for (let start = 0; start < bytes.length; start += 16_384) {
      const flags = start + 16_384 < bytes.length ? 0 : FLAG.END_STREAM;
      frames.push(frame(FRAME.DATA, flags, streamId, bytes.subarray(start, start + 16_384)));
    }
    return Buffer.concat(frames);
  }
}

/** Reads frames as a client would. */
export class FrameReader {
  readonly #decoder = new HpackDecoder(100_000, 1_000_000);
  #rest: Buffer = Buffer.alloc(0);
  #block: Buffer = Buffer.alloc(0);

  read(bytes: Uint8Array): RawFrame[] {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    const frames: RawFrame[] = [];
    while (this.#rest.length >= 9) {
      const length = this.#rest.readUIntBE(0, 3);
      if (this.#rest.length < 9 + length) break;
      const payload = this.#rest.subarray(9, 9 + length);
      frames.push(
        this.#describe(
          this.#rest[3] as number,
          this.#rest[4] as number,
          this.#rest.readUInt32BE(5),
          payload,
        ),
      );
      this.#rest = this.#rest.subarray(9 + length);
    }
    return frames;
  }

  #describe(type: number, flags: number, streamId: number, payload: Buffer): RawFrame {
    const base = { type: TYPE_NAMES[type] ?? String(type), streamId, flags, payload };
    if (type === FRAME.RST_STREAM) return { ...base, error: nameOfError(payload.readUInt32BE(0)) };
    if (type === FRAME.GOAWAY) {
      return {
        ...base,
        error: nameOfError(payload.readUInt32BE(4)),
        message: payload.toString("latin1", 8),
      };
    }
    if (type !== FRAME.HEADERS && type !== FRAME.CONTINUATION) return base;
    this.#block = Buffer.concat([this.#block, payload]);
    if ((flags & FLAG.END_HEADERS) === 0) return base;
    const list = this.#decoder.decode(this.#block, 0, this.#block.length);
    this.#block = Buffer.alloc(0);
    return {
      ...base,
      headers: Object.fromEntries(list.fields.map(({ name, value }) => [name, value])),
    };
  }
}

function nameOfError(code: number): string {
  return Object.entries(ERROR).find(([, value]) => value === code)?.[0] ?? String(code);
}
