import { gzipSync } from "node:zlib";

import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

import type { CallEnd, ClientCall, ClientReceiver } from "../src/client-call.ts";
import { type ClientConnection, createClientConnection } from "../src/client-connection.ts";
import type { FieldList } from "../src/hpack/encoder.ts";
import { FLAG, FRAME, PREFACE } from "../src/http2/protocol.ts";
import { GRPC_STATUS } from "../src/status.ts";
import {
  BlockWriter,
  frame,
  FrameReader,
  message,
  type RawFrame,
  settings,
  uint32,
} from "./raw-frames.ts";

const END = FLAG.END_HEADERS | FLAG.END_STREAM;
const HEAD: FieldList = [
  [":status", "200"],
  ["content-type", "application/grpc"],
];

/** A client's connection and a server of frames that are written by hand. */
class RawServer {
  readonly client: ClientConnection;
  readonly blocks: BlockWriter = new BlockWriter();
  readonly events: string[] = [];
  readonly ends: CallEnd[] = [];
  readonly errors: unknown[] = [];
  /** What the client said first. */
  readonly preface: Buffer;
  nowMs = 0;
  readonly #reader = new FrameReader();
  readonly #receiver: ClientReceiver = {
    onHeaders: (_, headers) => this.events.push(`headers ${headers.get("x-head") ?? ""}`),
    onMessage: (_, bytes) => this.events.push(`message ${Buffer.from(bytes).toString("latin1")}`),
    onDrain: () => this.events.push("drain"),
    onEnd: (_, end) => {
      this.ends.push(end);
      this.events.push(`end ${end.status}`);
    },
  };

  constructor(peerSettings: Buffer = Buffer.alloc(0)) {
    this.client = createClientConnection({ onError: (error) => this.errors.push(error) }, 0);
    const hello = Buffer.concat(this.client.takeOutput());
    this.preface = hello.subarray(0, PREFACE.length);
    this.#reader.read(hello.subarray(PREFACE.length));
    this.send(frame(FRAME.SETTINGS, 0, 0, peerSettings), frame(FRAME.SETTINGS, FLAG.ACK, 0));
    this.take();
  }

  start(timeoutMs?: number, receiver: ClientReceiver = this.#receiver): ClientCall {
    const call = this.client.startCall(
      { path: "/a.B/C", authority: "test", ...(timeoutMs === undefined ? {} : { timeoutMs }) },
      receiver,
      this.nowMs,
    );
    if (call === undefined) throw new Error("no call could be started");
    return call;
  }

  send(...parts: readonly Uint8Array[]): this {
    this.client.receive(Buffer.concat(parts), this.nowMs);
    return this;
  }

  take(): RawFrame[] {
    return this.client.takeOutput().flatMap((piece) => this.#reader.read(piece));
  }

  /** What was written, shortened. */
  takeSummary(): string[] {
    return this.take().map(
      ({ type, streamId, error, flags }) => `${type} ${streamId} ${error ?? flags}`,
    );
  }

  answer(streamId: number, body: string, trailers: FieldList = [["grpc-status", "0"]]): this {
    return this.send(
      this.blocks.headers(streamId, HEAD),
      frame(FRAME.DATA, 0, streamId, message(body)),
      this.blocks.headers(streamId, trailers, END),
    );
  }
}

describe("calls", () => {
  test("a unary call goes out as headers, one message and an end, and comes back", () => {
    const server = new RawServer();
    expect(server.preface).toEqual(PREFACE);
    const call = server.start(1500);
    call.sendMessage(Buffer.from("hello"));
    call.halfClose();
    const [head, data, end] = server.take();
    expect(head?.headers).toMatchObject({
      ":method": "POST",
      ":path": "/a.B/C",
      ":scheme": "http",
      ":authority": "test",
      te: "trailers",
      "content-type": "application/grpc",
      "grpc-timeout": "1500000u",
    });
    expect(data?.payload).toEqual(message("hello"));
    expect(end).toMatchObject({ type: "DATA", flags: FLAG.END_STREAM });
    server.answer(1, "world");
    expect(server.events).toEqual(["headers ", "message world", "end 0"]);
    expect(server.take()).toEqual([]);
  });

  test("a trailers-only answer ends the call with its status and words", () => {
    const server = new RawServer();
    server.start().halfClose();
    const fields: FieldList = [...HEAD, ["grpc-status", "5"], ["grpc-message", "gr%C3%B6%C3%9Fer"]];
    server.send(server.blocks.headers(1, fields, END));
    expect(server.ends).toMatchObject([{ status: GRPC_STATUS.NOT_FOUND, message: "größer" }]);
  });

  test("an answer that comes before we have said everything ends the call, and our side is given up", () => {
    const server = new RawServer();
    const call = server.start();
    call.sendMessage(Buffer.from("a"));
    server.take();
    server.answer(1, "enough").send(frame(FRAME.RST_STREAM, 0, 1, uint32(0)));
    expect(server.takeSummary()).toEqual(["RST_STREAM 1 NO_ERROR"]);
    call.sendMessage(Buffer.from("b"));
    call.halfClose();
    expect(server.take()).toEqual([]);
  });

  test("1xx answers are skipped, gzip is undone", () => {
    const server = new RawServer();
    server.start();
    server.send(
      server.blocks.headers(1, [[":status", "103"]]),
      server.blocks.headers(1, [...HEAD, ["grpc-encoding", "gzip"]]),
      frame(FRAME.DATA, 0, 1, message(gzipSync("packed"), 1)),
    );
    expect(server.events).toEqual(["headers ", "message packed"]);
  });

  test("cancel resets the stream and ends the call at once", () => {
    const server = new RawServer();
    const call = server.start();
    server.take();
    call.cancel();
    expect(server.takeSummary()).toEqual(["RST_STREAM 1 CANCEL"]);
    expect(server.events).toEqual(["end 1"]);
    server.answer(1, "late");
    expect(server.events).toEqual(["end 1"]);
  });

  test("a deadline ends the call, whatever the server does", () => {
    const server = new RawServer();
    server.start(100);
    expect(server.client.nextTickMs).toBe(100);
    server.client.tick(100);
    expect(server.ends).toMatchObject([{ status: GRPC_STATUS.DEADLINE_EXCEEDED }]);
    expect(server.takeSummary().at(-1)).toBe("RST_STREAM 1 CANCEL");
  });

  test("messages wait for windows, and onDrain says when to go on", () => {
    const server = new RawServer(settings([4, 1000]));
    const call = server.start();
    expect(call.sendMessage(Buffer.alloc(300_000))).toBe(false);
    expect(server.take().at(-1)?.payload).toHaveLength(1000);
    server.send(frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(400_000)));
    server.send(frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(400_000)));
    call.halfClose();
    expect(server.take().at(-1)).toMatchObject({ type: "DATA", flags: FLAG.END_STREAM });
    expect(call.isOver).toBe(false);
  });
});

describe("answers that are none", () => {
  test.each<[string, FieldList, number, number]>([
    ["HTTP 503", [[":status", "503"]], END, GRPC_STATUS.UNAVAILABLE],
    [
      "HTTP 401 with a page",
      [
        [":status", "401"],
        ["content-type", "text/html"],
      ],
      4,
      GRPC_STATUS.UNAUTHENTICATED,
    ],
    [
      "a page",
      [
        [":status", "200"],
        ["content-type", "text/html"],
      ],
      4,
      GRPC_STATUS.UNKNOWN,
    ],
    ["no grpc-status", HEAD, END, GRPC_STATUS.UNKNOWN],
    ["a grpc-status that is no number", [...HEAD, ["grpc-status", "x"]], END, GRPC_STATUS.UNKNOWN],
    ["an unknown grpc-encoding", [...HEAD, ["grpc-encoding", "br"]], 4, GRPC_STATUS.INTERNAL],
    ["no :status", [["content-type", "application/grpc"]], END, GRPC_STATUS.INTERNAL],
    ["a request's pseudo-header", [...HEAD, [":path", "/"]], END, GRPC_STATUS.INTERNAL],
    ["a connection-specific field", [...HEAD, ["connection", "close"]], END, GRPC_STATUS.INTERNAL],
  ])("%s", (_, fields, flags, status) => {
    const server = new RawServer();
    server.start();
    server.send(server.blocks.headers(1, fields, flags));
    expect(server.ends).toMatchObject([{ status }]);
  });

  test.each([
    ["DATA that ends without trailers", "x"],
    ["a message that is cut", ""],
  ])("%s: INTERNAL", (_, tail) => {
    const server = new RawServer();
    server.start();
    server.send(server.blocks.headers(1, HEAD));
    if (tail === "") {
      server.send(frame(FRAME.DATA, 0, 1, "\0\0\0\0\x09half"));
      server.send(server.blocks.headers(1, [["grpc-status", "0"]], END));
    } else {
      server.send(frame(FRAME.DATA, FLAG.END_STREAM, 1, message("x")));
    }
    expect(server.ends).toMatchObject([{ status: GRPC_STATUS.INTERNAL }]);
  });
});

describe("ends of streams and connections", () => {
  test.each([
    [7, GRPC_STATUS.UNAVAILABLE, true],
    [8, GRPC_STATUS.CANCELLED, false],
    [11, GRPC_STATUS.RESOURCE_EXHAUSTED, false],
    [2, GRPC_STATUS.INTERNAL, false],
  ])("RST_STREAM with code %i is status %i", (code, status, isUnprocessed) => {
    const server = new RawServer();
    server.start();
    server.send(frame(FRAME.RST_STREAM, 0, 1, uint32(code)));
    expect(server.ends).toMatchObject([{ status, isUnprocessed }]);
  });

  test("GOAWAY: calls above its stream were not processed, the others go on, and no more start", () => {
    const server = new RawServer();
    server.start();
    server.start();
    server.send(frame(FRAME.GOAWAY, 0, 0, Buffer.concat([uint32(1), uint32(0)])));
    expect(server.ends).toMatchObject([{ status: GRPC_STATUS.UNAVAILABLE, isUnprocessed: true }]);
    expect(server.client.availableCalls).toBe(0);
    server.answer(1, "ok");
    expect(server.ends).toMatchObject([{}, { status: 0 }]);
    expect(server.client.isClosed).toBe(true);
  });

  test("a lost transport ends every call with UNAVAILABLE", () => {
    const server = new RawServer();
    server.start();
    server.client.transportClosed();
    expect(server.ends).toMatchObject([{ status: GRPC_STATUS.UNAVAILABLE, isUnprocessed: false }]);
  });

  test("the server's SETTINGS_MAX_CONCURRENT_STREAMS is kept", () => {
    const server = new RawServer(settings([3, 1]));
    const call = server.start();
    expect(server.client.availableCalls).toBe(0);
    expect(() => server.start()).toThrow("no call could be started");
    call.cancel();
    expect(server.client.availableCalls).toBe(1);
  });

  test.each([
    ["PUSH_PROMISE", frame(FRAME.PUSH_PROMISE, 4, 1, uint32(2))],
    ["SETTINGS_ENABLE_PUSH 1", frame(FRAME.SETTINGS, 0, 0, settings([2, 1]))],
    ["HEADERS on a stream that was not opened", frame(FRAME.HEADERS, END, 9, "\x88")],
    ["HEADERS on an even stream", frame(FRAME.HEADERS, END, 2, "\x88")],
    ["WINDOW_UPDATE on an idle stream", frame(FRAME.WINDOW_UPDATE, 0, 3, uint32(1))],
  ])("%s from a server: PROTOCOL_ERROR", (_, bytes) => {
    const server = new RawServer();
    server.start();
    server.take();
    server.send(bytes);
    expect(server.take()).toMatchObject([{ type: "GOAWAY", error: "PROTOCOL_ERROR" }]);
    expect(server.ends).toMatchObject([{ status: GRPC_STATUS.UNAVAILABLE }]);
  });

  test("a receiver that throws gives its call up and nothing else", () => {
    const server = new RawServer();
    server.start(undefined, {
      onMessage() {
        throw new Error("broken");
      },
      onEnd() {},
    });
    server.start();
    server.answer(1, "x").answer(3, "y");
    expect(server.errors).toHaveLength(1);
    expect(server.events).toEqual(["headers ", "message y", "end 0"]);
  });
});

test("whatever a server sends, every call ends exactly once", () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc
      .tuple(
        fc.nat(10),
        fc.nat(63),
        fc.constantFrom(0, 1, 1, 3, 2, 5),
        fc.uint8Array({ maxLength: 30 }),
      )
      .map(([type, flags, id, payload]) => frame(type, flags, id, payload)),
  );
  fc.assert(
    fc.property(fc.array(bytes, { maxLength: 12 }), (chunks) => {
      const server = new RawServer();
      server.start();
      server.start();
      for (const chunk of chunks) server.send(chunk);
      server.client.transportClosed();
      expect(server.ends).toHaveLength(2);
      expect(server.errors).toEqual([]);
    }),
    { numRuns: 500 },
  );
});
