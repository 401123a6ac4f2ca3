import { describe, expect, test } from "vitest";

import type { FieldList } from "../src/hpack/encoder.ts";
import { FLAG, FRAME, PREFACE } from "../src/http2/protocol.ts";
import { RawClient } from "./raw-client.ts";
import { callFields, frame, HELLO, message, settings, uint32 } from "./raw-frames.ts";

const END = FLAG.END_HEADERS | FLAG.END_STREAM;
const GOAWAY = (error: string): object => expect.objectContaining({ type: "GOAWAY", error });
const RESET = (streamId: number, error: string): object =>
  expect.objectContaining({ type: "RST_STREAM", streamId, error });
const stream = "/test.Echo/Stream";

/** A client with one streaming call open on stream 1. */
function openStream(client = new RawClient()): RawClient {
  client.send(client.blocks.headers(1, callFields(stream)));
  return client;
}

describe("3.4 connection preface", () => {
  test("a server's first frame is SETTINGS", () => {
    expect(new RawClient({ isSilent: true }).take()[0]).toMatchObject({
      type: "SETTINGS",
      flags: 0,
    });
  });

  test.each([
    ["bytes that are not the preface", Buffer.from("GET / HTTP/1.1\r\nhost: a\r\n\r\n")],
    [
      "a preface that breaks off into something else",
      Buffer.concat([PREFACE.subarray(0, 20), HELLO]),
    ],
    [
      "a first frame that is not SETTINGS",
      Buffer.concat([PREFACE, frame(FRAME.PING, 0, 0, "12345678")]),
    ],
    [
      "a first SETTINGS that is an acknowledgement",
      Buffer.concat([PREFACE, frame(FRAME.SETTINGS, FLAG.ACK, 0)]),
    ],
  ])("%s: PROTOCOL_ERROR", (_, bytes) => {
    const client = new RawClient({ isSilent: true });
    client.take();
    client.send(bytes);
    expect(client.take()).toEqual([GOAWAY("PROTOCOL_ERROR")]);
    expect(client.server.isClosed).toBe(true);
  });
});

describe("4.1 frame format", () => {
  test("frames of unknown types are ignored", () => {
    const client = new RawClient();
    client.send(frame(0x77, 0xff, 5, "whatever"), client.blocks.call(1));
    expect(client.takeSummary()).toEqual(["HEADERS 1 200", "DATA 1 10", "HEADERS 1 0"]);
  });

  test("the reserved bit of the stream id is ignored", () => {
    const client = new RawClient();
    const call = client.blocks.call(1);
    call[5] = 0x80;
    client.send(call);
    expect(client.takeSummary()).toEqual(["HEADERS 1 200", "DATA 1 10", "HEADERS 1 0"]);
  });

  test("undefined flags are ignored", () => {
    const client = new RawClient();
    client.send(
      frame(FRAME.PING, 0xfe, 0, "12345678"),
      frame(FRAME.WINDOW_UPDATE, 0xff, 0, uint32(1)),
    );
    expect(client.take()).toMatchObject([{ type: "PING", flags: FLAG.ACK }]);
  });
});

describe("4.2 frame size", () => {
  test("a frame above our SETTINGS_MAX_FRAME_SIZE: FRAME_SIZE_ERROR", () => {
    const client = openStream();
    client.send(frame(FRAME.DATA, 0, 1, Buffer.alloc(65_537)));
    expect(client.take()).toEqual([GOAWAY("FRAME_SIZE_ERROR")]);
  });

  test("a frame of exactly SETTINGS_MAX_FRAME_SIZE is taken", () => {
    const client = openStream();
    client.send(frame(FRAME.DATA, 0, 1, message(Buffer.alloc(65_531))));
    expect(client.saw().events).toHaveLength(1);
  });
});

describe("4.3 header compression", () => {
  test("a block that does not decode: COMPRESSION_ERROR", () => {
    const client = new RawClient();
    client.send(frame(FRAME.HEADERS, END, 1, Buffer.from([0xff, 0xff])));
    expect(client.take()).toEqual([GOAWAY("COMPRESSION_ERROR")]);
  });

  test("blocks of refused streams are decoded all the same, so that the tables stay equal", () => {
    const client = new RawClient({ limits: { maxConcurrentStreams: 1 } });
    client.send(client.blocks.headers(1, callFields(stream)));
    client.send(client.blocks.headers(3, callFields(stream, ["x-new", "1"])));
    expect(client.takeSummary()).toEqual(["RST_STREAM 3 REFUSED_STREAM"]);
    client.send(frame(FRAME.RST_STREAM, 0, 1, uint32(8)));
    client.send(client.blocks.headers(5, callFields(stream, ["x-new", "1"])));
    expect(client.saw().call.headers.get("x-new")).toBe("1");
  });
});

describe("5.1 stream states", () => {
  test.each([
    ["DATA", frame(FRAME.DATA, 0, 1, "x")],
    ["RST_STREAM", frame(FRAME.RST_STREAM, 0, 1, uint32(8))],
    ["WINDOW_UPDATE", frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(1))],
  ])("%s on an idle stream: PROTOCOL_ERROR", (_, bytes) => {
    expect(new RawClient().send(bytes).take()).toEqual([GOAWAY("PROTOCOL_ERROR")]);
  });

  test("PRIORITY on an idle stream is ignored", () => {
    expect(new RawClient().send(frame(FRAME.PRIORITY, 0, 7, Buffer.alloc(5))).take()).toEqual([]);
  });

  test.each([
    ["DATA", FRAME.DATA, message("more")],
    ["HEADERS", FRAME.HEADERS, Buffer.from([0x82])],
  ])("%s after END_STREAM, our side still open: STREAM_CLOSED", (_, type, payload) => {
    const client = openStream();
    client.send(frame(FRAME.DATA, FLAG.END_STREAM, 1, message("x")));
    client.send(frame(type, END, 1, payload));
    expect(client.take()).toEqual([RESET(1, "STREAM_CLOSED")]);
    expect(client.saw().cancelled).toBe("reset");
  });

  test.each([
    ["DATA", FRAME.DATA],
    ["HEADERS", FRAME.HEADERS],
  ])("%s on a stream that both sides ended: STREAM_CLOSED for the connection", (_, type) => {
    const client = new RawClient();
    client.send(client.blocks.call(1));
    client.take();
    client.send(frame(type, END, 1, Buffer.from([0x82])));
    expect(client.take()).toEqual([GOAWAY("STREAM_CLOSED")]);
  });

  test.each([
    ["WINDOW_UPDATE", frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(1))],
    ["RST_STREAM", frame(FRAME.RST_STREAM, 0, 1, uint32(8))],
    ["PRIORITY", frame(FRAME.PRIORITY, 0, 1, Buffer.alloc(5))],
  ])("%s on a closed stream is ignored", (_, bytes) => {
    const client = new RawClient();
    client.send(client.blocks.call(1));
    client.take();
    expect(client.send(bytes).take()).toEqual([]);
  });

  test("frames that were on their way when we reset the stream are ignored", () => {
    const client = openStream();
    client.saw().call.finish(5, "not here");
    expect(client.takeSummary()).toEqual(["HEADERS 1 5", "RST_STREAM 1 NO_ERROR"]);
    client.send(
      frame(FRAME.DATA, 0, 1, message("late")),
      client.blocks.headers(1, [["x-trailer", "1"]], END),
    );
    expect(client.take()).toEqual([]);
  });
});

describe("5.1.1 stream identifiers", () => {
  test("a stream with an even number: PROTOCOL_ERROR", () => {
    const client = new RawClient();
    client.send(client.blocks.headers(2, callFields()));
    expect(client.take()).toEqual([GOAWAY("PROTOCOL_ERROR")]);
  });

  test("a stream below one that was opened: PROTOCOL_ERROR", () => {
    const client = new RawClient();
    client.send(
      client.blocks.headers(5, callFields(stream)),
      client.blocks.headers(3, callFields(stream)),
    );
    expect(client.take()).toEqual([GOAWAY("PROTOCOL_ERROR")]);
  });
});

describe("5.1.2 concurrency", () => {
  test("a stream above SETTINGS_MAX_CONCURRENT_STREAMS: REFUSED_STREAM, and the others go on", () => {
    const client = new RawClient({ limits: { maxConcurrentStreams: 2 } });
    for (const id of [1, 3, 5]) client.send(client.blocks.headers(id, callFields(stream)));
    expect(client.takeSummary()).toEqual(["RST_STREAM 5 REFUSED_STREAM"]);
    client.saw(0).call.finish(0);
    expect(client.takeSummary()).toEqual(["HEADERS 1 0", "RST_STREAM 1 NO_ERROR"]);
    client.send(client.blocks.call(7));
    expect(client.takeSummary()).toEqual(["HEADERS 7 200", "DATA 7 10", "HEADERS 7 0"]);
  });
});

describe("6.1 DATA", () => {
  test("on stream 0: PROTOCOL_ERROR", () => {
    expect(new RawClient().send(frame(FRAME.DATA, 0, 0, "x")).take()).toEqual([
      GOAWAY("PROTOCOL_ERROR"),
    ]);
  });

  test("padding is cut off and counts against flow control", () => {
    const client = openStream(new RawClient({ limits: { streamWindowBytes: 65_535 } }));
    const padded = Buffer.concat([Buffer.from([200]), message("x"), Buffer.alloc(200)]);
    client.send(frame(FRAME.DATA, FLAG.PADDED, 1, padded));
    expect(client.saw().events).toEqual(["message x"]);
    for (let round = 0; round < 160; round += 1)
      client.send(frame(FRAME.DATA, FLAG.PADDED, 1, padded));
    const updates = client
      .take()
      .filter(({ type, streamId }) => type === "WINDOW_UPDATE" && streamId === 1);
    expect(updates).toHaveLength(1);
    expect(updates[0]?.payload.readUInt32BE(0)).toBeGreaterThan(32_000);
  });

  test("padding as long as the payload: PROTOCOL_ERROR", () => {
    const client = openStream();
    client.send(frame(FRAME.DATA, FLAG.PADDED, 1, Buffer.from([3, 0, 0])));
    expect(client.take()).toEqual([GOAWAY("PROTOCOL_ERROR")]);
  });

  test("PADDED without room for the length of the padding: FRAME_SIZE_ERROR", () => {
    const client = openStream();
    client.send(frame(FRAME.DATA, FLAG.PADDED, 1));
    expect(client.take()).toEqual([GOAWAY("FRAME_SIZE_ERROR")]);
  });

  test("nothing but padding, with END_STREAM, ends the request", () => {
    const client = openStream();
    client.send(frame(FRAME.DATA, FLAG.PADDED | FLAG.END_STREAM, 1, Buffer.from([2, 0, 0])));
    expect(client.saw().events).toEqual(["half-close"]);
  });
});

describe("6.2 HEADERS", () => {
  test("on stream 0: PROTOCOL_ERROR", () => {
    expect(new RawClient().send(frame(FRAME.HEADERS, END, 0, "\x82")).take()).toEqual([
      GOAWAY("PROTOCOL_ERROR"),
    ]);
  });

  test("padding and priority are cut off", () => {
    const client = new RawClient();
    const block = Buffer.concat([
      Buffer.from([3, 0, 0, 0, 0, 16]),
      client.blocks.block(callFields(stream)),
      Buffer.alloc(3),
    ]);
    client.send(frame(FRAME.HEADERS, FLAG.END_HEADERS | FLAG.PADDED | FLAG.PRIORITY, 1, block));
    expect(client.saw().call.path).toBe(stream);
  });

  test("padding longer than the frame: PROTOCOL_ERROR", () => {
    const bytes = frame(FRAME.HEADERS, END | FLAG.PADDED, 1, Buffer.from([9, 0x82]));
    expect(new RawClient().send(bytes).take()).toEqual([GOAWAY("PROTOCOL_ERROR")]);
  });

  test.each([
    ["PADDED without room", FLAG.PADDED],
    ["PRIORITY without room", FLAG.PRIORITY],
  ])("%s: FRAME_SIZE_ERROR", (_, flag) => {
    expect(new RawClient().send(frame(FRAME.HEADERS, END | flag, 1)).take()).toEqual([
      GOAWAY("FRAME_SIZE_ERROR"),
    ]);
  });
});

describe("6.3 PRIORITY", () => {
  test("on stream 0: PROTOCOL_ERROR", () => {
    expect(new RawClient().send(frame(FRAME.PRIORITY, 0, 0, Buffer.alloc(5))).take()).toEqual([
      GOAWAY("PROTOCOL_ERROR"),
    ]);
  });

  test("of another length than 5: FRAME_SIZE_ERROR for the stream", () => {
    const client = openStream();
    expect(client.send(frame(FRAME.PRIORITY, 0, 1, Buffer.alloc(4))).take()).toEqual([
      RESET(1, "FRAME_SIZE_ERROR"),
    ]);
  });
});

describe("6.4 RST_STREAM", () => {
  test("ends the call, and nothing is sent on the stream any more", () => {
    const client = openStream();
    client.send(frame(FRAME.RST_STREAM, 0, 1, uint32(8)));
    expect(client.saw().events).toEqual(["cancel reset"]);
    expect(client.saw().call.sendMessage(Buffer.from("x"))).toBe(true);
    client.saw().call.finish(0);
    expect(client.take()).toEqual([]);
  });

  test("on stream 0: PROTOCOL_ERROR", () => {
    expect(new RawClient().send(frame(FRAME.RST_STREAM, 0, 0, uint32(8))).take()).toEqual([
      GOAWAY("PROTOCOL_ERROR"),
    ]);
  });

  test("of another length than 4: FRAME_SIZE_ERROR", () => {
    expect(
      openStream()
        .send(frame(FRAME.RST_STREAM, 0, 1, "abc"))
        .take(),
    ).toEqual([GOAWAY("FRAME_SIZE_ERROR")]);
  });
});

describe("6.5 SETTINGS", () => {
  test("is acknowledged", () => {
    const client = new RawClient();
    client.send(frame(FRAME.SETTINGS, 0, 0, settings([0x99, 1], [3, 100])));
    expect(client.take()).toMatchObject([{ type: "SETTINGS", flags: FLAG.ACK }]);
  });

  test.each([
    ["on a stream", frame(FRAME.SETTINGS, 0, 1), "PROTOCOL_ERROR"],
    [
      "an acknowledgement with a payload",
      frame(FRAME.SETTINGS, FLAG.ACK, 0, settings([3, 1])),
      "FRAME_SIZE_ERROR",
    ],
    [
      "of a length that is no multiple of 6",
      frame(FRAME.SETTINGS, 0, 0, "abcde"),
      "FRAME_SIZE_ERROR",
    ],
    [
      "ENABLE_PUSH that is neither 0 nor 1",
      frame(FRAME.SETTINGS, 0, 0, settings([2, 2])),
      "PROTOCOL_ERROR",
    ],
    [
      "INITIAL_WINDOW_SIZE above 2^31 - 1",
      frame(FRAME.SETTINGS, 0, 0, settings([4, 2 ** 31])),
      "FLOW_CONTROL_ERROR",
    ],
    [
      "MAX_FRAME_SIZE below 16384",
      frame(FRAME.SETTINGS, 0, 0, settings([5, 16_383])),
      "PROTOCOL_ERROR",
    ],
    [
      "MAX_FRAME_SIZE above 2^24 - 1",
      frame(FRAME.SETTINGS, 0, 0, settings([5, 2 ** 24])),
      "PROTOCOL_ERROR",
    ],
  ])("%s: the connection ends", (_, bytes, error) => {
    expect(new RawClient().send(bytes).take()).toEqual([GOAWAY(error)]);
  });

  test("not acknowledged in time: SETTINGS_TIMEOUT", () => {
    const client = new RawClient({ isSilent: true });
    client.send(PREFACE, frame(FRAME.SETTINGS, 0, 0));
    client.take();
    client.send(client.blocks.headers(1, callFields(stream)));
    expect(client.pass(9_000).take()).toEqual([]);
    expect(client.pass(1_500).take()).toEqual([GOAWAY("SETTINGS_TIMEOUT")]);
  });

  test("of two HEADER_TABLE_SIZE in one frame the smaller is announced before the larger", () => {
    const client = new RawClient();
    client.send(client.blocks.call(1), frame(FRAME.SETTINGS, 0, 0, settings([1, 0], [1, 4096])));
    client.take();
    client.send(client.blocks.call(3));
    expect(client.take()[0]?.payload.subarray(0, 4).toString("hex")).toBe("203fe11f");
  });

  test("HEADER_TABLE_SIZE 0 is honoured: nothing is put into the table any more", () => {
    const client = new RawClient();
    client.send(
      frame(FRAME.SETTINGS, 0, 0, settings([1, 0])),
      client.blocks.call(1),
      client.blocks.call(3),
    );
    const blocks = client.take().filter(({ type }) => type === "HEADERS");
    expect(blocks[0]?.payload[0]).toBe(0x20);
    expect(blocks.map(({ payload }) => payload.length)).toEqual([
      blocks[2]!.payload.length + 1,
      blocks[3]!.payload.length,
      blocks[2]!.payload.length,
      blocks[3]!.payload.length,
    ]);
  });

  test("MAX_FRAME_SIZE bounds what we send", () => {
    const client = new RawClient();
    client.send(
      frame(FRAME.SETTINGS, 0, 0, settings([5, 20_000])),
      client.blocks.call(1, Buffer.alloc(50_000)),
    );
    expect(client.takeSummary()).toEqual([
      "SETTINGS 0 0",
      "HEADERS 1 200",
      "DATA 1 20000",
      "DATA 1 20000",
      "DATA 1 10005",
      "HEADERS 1 0",
    ]);
  });
});

describe("6.6 PUSH_PROMISE", () => {
  test("from a client: PROTOCOL_ERROR", () => {
    expect(
      openStream()
        .send(frame(FRAME.PUSH_PROMISE, FLAG.END_HEADERS, 1, uint32(2)))
        .take(),
    ).toEqual([GOAWAY("PROTOCOL_ERROR")]);
  });
});

describe("6.7 PING", () => {
  test("is answered with the same bytes", () => {
    const frames = new RawClient().send(frame(FRAME.PING, 0, 0, "abcdefgh")).take();
    expect(frames).toMatchObject([{ type: "PING", flags: FLAG.ACK }]);
    expect(frames[0]?.payload.toString()).toBe("abcdefgh");
  });

  test("an answer is not answered", () => {
    expect(new RawClient().send(frame(FRAME.PING, FLAG.ACK, 0, "abcdefgh")).take()).toEqual([]);
  });

  test.each([
    ["on a stream", frame(FRAME.PING, 0, 1, "abcdefgh"), "PROTOCOL_ERROR"],
    ["of another length than 8", frame(FRAME.PING, 0, 0, "abc"), "FRAME_SIZE_ERROR"],
  ])("%s: the connection ends", (_, bytes, error) => {
    expect(new RawClient().send(bytes).take()).toEqual([GOAWAY(error)]);
  });
});

describe("6.8 GOAWAY", () => {
  test.each([
    ["on a stream", frame(FRAME.GOAWAY, 0, 1, Buffer.alloc(8)), "PROTOCOL_ERROR"],
    ["shorter than 8 bytes", frame(FRAME.GOAWAY, 0, 0, Buffer.alloc(7)), "FRAME_SIZE_ERROR"],
  ])("%s: the connection ends", (_, bytes, error) => {
    expect(new RawClient().send(bytes).take()).toEqual([GOAWAY(error)]);
  });

  test("from a client: open calls go on, and the connection ends after the last", () => {
    const client = openStream();
    client.send(frame(FRAME.GOAWAY, 0, 0, Buffer.alloc(8)));
    expect(client.server.isClosed).toBe(false);
    client.saw().call.finish(0);
    expect(client.takeSummary()).toEqual([
      "HEADERS 1 0",
      "RST_STREAM 1 NO_ERROR",
      "GOAWAY 0 NO_ERROR",
    ]);
    expect(client.server.isClosed).toBe(true);
  });

  test("a drain says it twice, takes what was on its way, and ends after the last call", () => {
    const client = openStream();
    client.server.drain(client.nowMs);
    const [first, ping] = client.take();
    expect(first).toMatchObject({ type: "GOAWAY", error: "NO_ERROR" });
    expect(first?.payload.readUInt32BE(0)).toBe(2 ** 31 - 1);
    client.send(client.blocks.headers(3, callFields(stream)));
    expect(client.seen).toHaveLength(2);
    client.send(frame(FRAME.PING, FLAG.ACK, 0, ping!.payload));
    const [second] = client.take();
    expect(second?.payload.readUInt32BE(0)).toBe(3);
    client.send(client.blocks.headers(5, callFields(stream)));
    expect(client.takeSummary()).toEqual(["RST_STREAM 5 REFUSED_STREAM"]);
    client.saw(0).call.finish(0);
    client.saw(1).call.finish(0);
    expect(client.server.isClosed).toBe(true);
    expect(client.take().at(-1)).toMatchObject({ type: "GOAWAY", error: "NO_ERROR" });
  });
});

describe("6.9 WINDOW_UPDATE and flow control", () => {
  test.each([
    [
      "by 0 for the connection",
      frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(0)),
      GOAWAY("PROTOCOL_ERROR"),
    ],
    ["by 0 for a stream", frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(0)), RESET(1, "PROTOCOL_ERROR")],
    [
      "of another length than 4",
      frame(FRAME.WINDOW_UPDATE, 0, 1, "abc"),
      GOAWAY("FRAME_SIZE_ERROR"),
    ],
    [
      "beyond 2^31 - 1 for the connection",
      frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(2 ** 31 - 1)),
      GOAWAY("FLOW_CONTROL_ERROR"),
    ],
    [
      "beyond 2^31 - 1 for a stream",
      frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(2 ** 31 - 1)),
      RESET(1, "FLOW_CONTROL_ERROR"),
    ],
  ])("%s is refused", (_, bytes, expected) => {
    expect(openStream().send(bytes).take()).toEqual([expected]);
  });

  test("SETTINGS that push an open stream's window beyond 2^31 - 1: FLOW_CONTROL_ERROR", () => {
    const client = openStream();
    client.send(frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(2 ** 31 - 1 - 65_535)));
    client.send(frame(FRAME.SETTINGS, 0, 0, settings([4, 65_536])));
    expect(client.take()).toEqual([GOAWAY("FLOW_CONTROL_ERROR")]);
  });

  test("we never send beyond a stream's window, and go on when it opens", () => {
    const client = new RawClient();
    client.send(
      frame(FRAME.SETTINGS, 0, 0, settings([4, 1000])),
      client.blocks.call(1, Buffer.alloc(2000)),
    );
    expect(client.takeSummary()).toEqual(["SETTINGS 0 0", "HEADERS 1 200", "DATA 1 1000"]);
    client.send(frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(5000)));
    expect(client.takeSummary()).toEqual(["DATA 1 1005", "HEADERS 1 0"]);
  });

  test("we never send beyond the connection's window, and go on when it opens", () => {
    const client = new RawClient();
    client.send(frame(FRAME.SETTINGS, 0, 0, settings([4, 1_000_000])));
    client.send(
      client.blocks.call(1, Buffer.alloc(60_000)),
      client.blocks.call(3, Buffer.alloc(60_000)),
    );
    const sent = client.take().filter(({ type }) => type === "DATA");
    expect(sent.reduce((sum, { payload }) => sum + payload.length, 0)).toBe(65_535);
    client.send(frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(1_000_000)));
    const rest = client.take();
    expect(rest.filter(({ type }) => type === "HEADERS")).toHaveLength(2);
  });

  test("a window may become negative when SETTINGS shrink it: we wait until it is positive again", () => {
    const client = new RawClient();
    client.send(client.blocks.call(1, Buffer.alloc(65_535)));
    client.take();
    client.send(frame(FRAME.SETTINGS, 0, 0, settings([4, 100])));
    client.send(
      frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(65_435)),
      frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(1000)),
    );
    expect(client.takeSummary()).toEqual(["SETTINGS 0 0"]);
    client.send(frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(5)));
    expect(client.takeSummary()).toEqual(["DATA 1 5", "HEADERS 1 0"]);
  });

  test("SETTINGS that open the window let a waiting stream go on", () => {
    const client = new RawClient();
    client.send(frame(FRAME.SETTINGS, 0, 0, settings([4, 0])), client.blocks.call(1));
    expect(client.takeSummary()).toEqual(["SETTINGS 0 0", "HEADERS 1 200"]);
    client.send(frame(FRAME.SETTINGS, 0, 0, settings([4, 100])));
    expect(client.takeSummary()).toEqual(["SETTINGS 0 0", "DATA 1 10", "HEADERS 1 0"]);
  });

  test("streams take turns when they wait for the same window", () => {
    const client = new RawClient();
    client.send(frame(FRAME.SETTINGS, 0, 0, settings([4, 1_000_000])));
    client.send(
      client.blocks.call(1, Buffer.alloc(100_000)),
      client.blocks.call(3, Buffer.alloc(100_000)),
    );
    const order = client
      .take()
      .filter(({ type }) => type === "DATA")
      .map(({ streamId }) => streamId);
    expect(order).toEqual([1, 3, 1, 3]);
  });

  test("DATA beyond a stream's window: FLOW_CONTROL_ERROR for the stream", () => {
    const receivers = { Hold: { manualConsume: true, onMessage() {}, onHalfClose() {} } };
    const client = new RawClient({ limits: { streamWindowBytes: 65_535 }, receivers });
    client.send(client.blocks.headers(1, callFields("/test.Echo/Hold")));
    for (let round = 0; round < 4; round += 1)
      client.send(frame(FRAME.DATA, 0, 1, message(Buffer.alloc(16_379))));
    expect(client.take()).toEqual([RESET(1, "FLOW_CONTROL_ERROR")]);
  });

  test("DATA beyond the connection's window: FLOW_CONTROL_ERROR", () => {
    const receivers = { Hold: { manualConsume: true, onMessage() {}, onHalfClose() {} } };
    const client = new RawClient({ limits: { connectionWindowBytes: 65_535 }, receivers });
    client.send(client.blocks.headers(1, callFields("/test.Echo/Hold")));
    for (let round = 0; round < 4; round += 1)
      client.send(frame(FRAME.DATA, 0, 1, message(Buffer.alloc(16_379))));
    expect(client.take()).toEqual([GOAWAY("FLOW_CONTROL_ERROR")]);
  });

  test("DATA on a stream that we reset still counts for the connection's window, and is given back", () => {
    const client = openStream(new RawClient({ limits: { connectionWindowBytes: 65_535 } }));
    client.saw().call.finish(5);
    client.take();
    for (let round = 0; round < 8; round += 1)
      client.send(frame(FRAME.DATA, 0, 1, Buffer.alloc(16_000)));
    const updates = client.take();
    expect(updates.every(({ type, streamId }) => type === "WINDOW_UPDATE" && streamId === 0)).toBe(
      true,
    );
    expect(updates.length).toBeGreaterThan(1);
  });
});

describe("6.10 CONTINUATION", () => {
  test("completes a header block", () => {
    const client = new RawClient();
    const block = client.blocks.block(callFields(stream));
    client.send(
      frame(FRAME.HEADERS, 0, 1, block.subarray(0, 3)),
      frame(FRAME.CONTINUATION, 0, 1, block.subarray(3, 5)),
      frame(FRAME.CONTINUATION, FLAG.END_HEADERS, 1, block.subarray(5)),
    );
    expect(client.saw().call.path).toBe(stream);
  });

  test.each([
    ["without HEADERS", [frame(FRAME.CONTINUATION, FLAG.END_HEADERS, 1, "\x82")]],
    [
      "on another stream",
      [frame(FRAME.HEADERS, 0, 1, "\x82"), frame(FRAME.CONTINUATION, 4, 3, "\x82")],
    ],
    [
      "with another frame between",
      [frame(FRAME.HEADERS, 0, 1, "\x82"), frame(FRAME.PING, 0, 0, "12345678")],
    ],
    ["with an unknown frame between", [frame(FRAME.HEADERS, 0, 1, "\x82"), frame(0x42, 0, 0, "1")]],
    ["with DATA between", [frame(FRAME.HEADERS, 0, 1, "\x82"), frame(FRAME.DATA, 0, 1, "1")]],
  ])("%s: PROTOCOL_ERROR", (_, frames) => {
    expect(new RawClient().send(...frames).take()).toEqual([GOAWAY("PROTOCOL_ERROR")]);
  });

  test("a header block that is larger than the client's frames is continued", () => {
    const client = openStream();
    client.saw().call.finish(0, "", [["x-long", "a".repeat(40_000)]]);
    const frames = client.take();
    expect(frames.map(({ type }) => type)).toEqual(["HEADERS", "CONTINUATION", "RST_STREAM"]);
    expect(frames[1]?.headers?.["x-long"]).toHaveLength(40_000);
  });
});

describe("8.1 messages", () => {
  test("trailers end the request", () => {
    const client = openStream();
    client.send(client.blocks.headers(1, [["x-checksum", "1"]], END));
    expect(client.saw().events).toEqual(["half-close"]);
  });

  test.each<[string, FieldList, number]>([
    ["a second HEADERS without END_STREAM", [["x-a", "1"]], FLAG.END_HEADERS],
    ["trailers with a pseudo-header", [[":path", "/"]], END],
  ])("%s: PROTOCOL_ERROR for the stream", (_, fields, flags) => {
    const client = openStream();
    client.send(client.blocks.headers(1, fields, flags));
    expect(client.take()).toEqual([RESET(1, "PROTOCOL_ERROR")]);
  });

  test("content-length that DATA exceeds: PROTOCOL_ERROR for the stream", () => {
    const client = new RawClient();
    client.send(client.blocks.headers(1, callFields(stream, ["content-length", "5"])));
    client.send(frame(FRAME.DATA, 0, 1, message("x")));
    expect(client.take()).toEqual([RESET(1, "PROTOCOL_ERROR")]);
  });

  test("content-length that DATA does not reach: PROTOCOL_ERROR for the stream", () => {
    const client = new RawClient();
    client.send(client.blocks.headers(1, callFields(stream, ["content-length", "100"])));
    client.send(frame(FRAME.DATA, FLAG.END_STREAM, 1, message("x")));
    expect(client.take()).toEqual([RESET(1, "PROTOCOL_ERROR")]);
    expect(client.saw().events).toEqual(["cancel reset"]);
  });

  test("content-length without DATA: PROTOCOL_ERROR for the stream", () => {
    const client = new RawClient();
    client.send(client.blocks.headers(1, callFields(stream, ["content-length", "5"]), END));
    expect(client.take()).toEqual([RESET(1, "PROTOCOL_ERROR")]);
    expect(client.seen).toEqual([]);
  });

  test("content-length that trailers cut short: PROTOCOL_ERROR for the stream", () => {
    const client = new RawClient();
    client.send(client.blocks.headers(1, callFields(stream, ["content-length", "100"])));
    client.send(client.blocks.headers(1, [["x-a", "1"]], END));
    expect(client.take()).toEqual([RESET(1, "PROTOCOL_ERROR")]);
  });
});

describe("8.2 and 8.3 fields of a request", () => {
  const without = (name: string): FieldList => callFields().filter(([it]) => it !== name);
  test.each<[string, FieldList]>([
    ["8.2 an upper-case name", callFields(undefined, ["X-Upper", "1"])],
    ["8.2.1 a name with a blank", callFields(undefined, ["x y", "1"])],
    ["8.2.1 an empty name", callFields(undefined, ["", "1"])],
    ["8.2.1 a value with a line break", callFields(undefined, ["x-a", "1\r\nx: y"])],
    ["8.2.1 a value with NUL", callFields(undefined, ["x-a", "1\0"])],
    ["8.2.1 a value that begins with a blank", callFields(undefined, ["x-a", " 1"])],
    ["8.2.1 a value that ends with a tab", callFields(undefined, ["x-a", "1\t"])],
    ["8.2.2 connection", callFields(undefined, ["connection", "close"])],
    ["8.2.2 proxy-connection", callFields(undefined, ["proxy-connection", "close"])],
    ["8.2.2 keep-alive", callFields(undefined, ["keep-alive", "1"])],
    ["8.2.2 transfer-encoding", callFields(undefined, ["transfer-encoding", "chunked"])],
    ["8.2.2 upgrade", callFields(undefined, ["upgrade", "h2c"])],
    ["8.2.2 te other than trailers", [...without("te"), ["te", "gzip"]]],
    ["8.3 an unknown pseudo-header", [[":unknown", "1"], ...callFields()]],
    ["8.3 a response's pseudo-header", [[":status", "200"], ...callFields()]],
    ["8.3 a pseudo-header after a field", [...without(":path"), [":path", "/a/b"]]],
    ["8.3 :path twice", [[":path", "/a/b"], ...callFields()]],
    ["8.3 :method twice", [[":method", "POST"], ...callFields()]],
    ["8.3 :scheme twice", [[":scheme", "http"], ...callFields()]],
    ["8.3 :authority twice", [[":authority", "test"], ...callFields()]],
    ["8.3.1 no :method", without(":method")],
    ["8.3.1 no :scheme", without(":scheme")],
    ["8.3.1 no :path", without(":path")],
    ["8.3.1 an empty :path", [[":path", ""], ...without(":path")]],
    ["8.3.1 a :path without its slash", [[":path", "a"], ...without(":path")]],
    ["8.3.1 host and :authority that differ", callFields(undefined, ["host", "other"])],
    ["8.5 CONNECT with :path", [[":method", "CONNECT"], ...without(":method")]],
    ["8.1.1 content-length that is no number", callFields(undefined, ["content-length", "1e3"])],
    [
      "8.1.1 two content-lengths that differ",
      callFields(undefined, ["content-length", "1"], ["content-length", "2"]),
    ],
  ])("%s: PROTOCOL_ERROR for the stream, and the connection goes on", (_, fields) => {
    const client = new RawClient();
    client.send(client.blocks.headers(1, fields, END));
    expect(client.take()).toEqual([RESET(1, "PROTOCOL_ERROR")]);
    expect(client.seen).toEqual([]);
    client.send(client.blocks.call(3));
    expect(client.takeSummary()).toEqual(["HEADERS 3 200", "DATA 3 10", "HEADERS 3 0"]);
  });

  test("credentials inside of :authority are refused with words that help", () => {
    const client = new RawClient();
    client.send(
      client.blocks.headers(1, [[":authority", "u:p@test"], ...without(":authority")], END),
    );
    expect(client.take()).toMatchObject([{ type: "HEADERS", headers: { "grpc-status": "16" } }]);
  });
});
