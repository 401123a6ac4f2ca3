import { createServer, type Socket } from "node:net";

import {
  encodeAnswerHeaders,
  encodeFrame,
  encodeSettings,
  encodeWindowUpdate,
  FLAG,
  FRAME,
  FRAME_HEADER_BYTES,
  MAX_FRAME_BYTES,
  MAX_WINDOW,
  PREFACE,
} from "./load/frames.ts";
import { frameBytes } from "./load/ring.ts";

/*
 * A program: it answers every call with the same bytes, and looks at frame headers only. It shows how many calls
 * the replayer can make when the server costs next to nothing.
 */

const MESSAGE_BYTES = Number(process.argv[2]);
const OK = Buffer.from([0x88]);
const ANSWER = Buffer.concat([
  encodeFrame(
    FRAME.headers,
    FLAG.endHeaders,
    1,
    Buffer.concat([OK, encodeAnswerHeaders([["content-type", "application/grpc"]])]),
  ),
  ...dataFrames(Buffer.alloc(MESSAGE_BYTES)),
  encodeFrame(
    FRAME.headers,
    FLAG.endHeaders | FLAG.endStream,
    1,
    encodeAnswerHeaders([["grpc-status", "0"]]),
  ),
]);

function dataFrames(message: Buffer): Buffer[] {
  const frames: Buffer[] = [];
  for (let at = 0; at < message.length; at += MAX_FRAME_BYTES) {
    frames.push(encodeFrame(FRAME.data, 0, 1, message.subarray(at, at + MAX_FRAME_BYTES)));
  }
  return frames;
}

function serve(socket: Socket): void {
  let rest: Buffer = Buffer.alloc(0);
  let isGreeted = false;
  socket.setNoDelay(true);
  socket.on("error", () => socket.destroy());
  socket.write(encodeSettings({ 4: MAX_WINDOW }));
  socket.write(encodeWindowUpdate(0, MAX_WINDOW - 65_535));
  socket.on("data", (bytes: Buffer) => {
    let all = rest.length === 0 ? bytes : Buffer.concat([rest, bytes]);
    if (!isGreeted) {
      if (all.length < PREFACE.length) {
        rest = all;
        return;
      }
      isGreeted = true;
      all = all.subarray(PREFACE.length);
    }
    const streams: number[] = [];
    let at = 0;
    while (all.length - at >= FRAME_HEADER_BYTES) {
      const length = frameBytes(all, at);
      if (all.length - at < length) break;
      const isEnd = ((all[at + 4] ?? 0) & FLAG.endStream) !== 0;
      if (all[at + 3] === FRAME.data && isEnd) streams.push(all.readUInt32BE(at + 5));
      if (all[at + 3] === FRAME.settings && !isEnd) {
        socket.write(encodeFrame(FRAME.settings, FLAG.ack, 0, Buffer.alloc(0)));
      }
      at += length;
    }
    rest = all.subarray(at);
    if (streams.length > 0) socket.write(answer(streams));
  });
}

function answer(streams: readonly number[]): Buffer {
  const out = Buffer.allocUnsafe(streams.length * ANSWER.length);
  let at = 0;
  for (const stream of streams) {
    out.set(ANSWER, at);
    const end = at + ANSWER.length;
    while (at < end) {
      out.writeUInt32BE(stream, at + 5);
      at += frameBytes(out, at);
    }
  }
  return out;
}

const server = createServer(serve);
server.listen(0, "127.0.0.1", () => {
  const address = server.address();
  process.stdout.write(`${typeof address === "object" ? address?.port : ""}\n`);
});
