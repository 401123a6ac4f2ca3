import { gzipSync } from "node:zlib";

import { describe, expect, test } from "vitest";

import { unary } from "../src/call-receiver.ts";
import type { FieldList } from "../src/hpack/encoder.ts";
import { FLAG, FRAME } from "../src/http2/protocol.ts";
import { formatStatusMessage, parseStatusMessage } from "../src/status.ts";
import { formatTimeout, parseTimeoutMs } from "../src/timeout.ts";
import { RawClient } from "./raw-client.ts";
import { callFields, frame, message, settings, uint32 } from "./raw-frames.ts";

const END = FLAG.END_HEADERS | FLAG.END_STREAM;
const stream = "/test.Echo/Stream";
const withField = (name: string, value: string): FieldList => {
  const fields = callFields(stream);
  return fields.some(([it]) => it === name)
    ? fields.map(([it, old]) => [it, it === name ? value : old] as const)
    : [...fields, [name, value]];
};

function openStream(client = new RawClient()): RawClient {
  client.send(client.blocks.headers(1, callFields(stream)));
  return client;
}

describe("requests that are no calls", () => {
  test("a method other than POST: 405", () => {
    const client = new RawClient();
    client.send(client.blocks.headers(1, withField(":method", "GET"), END));
    expect(client.take()[0]?.headers).toEqual({ ":status": "405", allow: "POST" });
  });

  test.each(["application/json", "application/grpc-web", "application/grpcx", ""])(
    "content-type %j: 415",
    (type) => {
      const client = new RawClient();
      client.send(client.blocks.headers(1, withField("content-type", type), END));
      expect(client.take()[0]?.headers).toEqual({ ":status": "415" });
    },
  );

  test.each(["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"])(
    "content-type %j is a call",
    (type) => {
      const client = new RawClient();
      client.send(client.blocks.headers(1, withField("content-type", type)));
      expect(client.saw().call.path).toBe(stream);
    },
  );

  test("an unknown method: UNIMPLEMENTED, and the connection goes on", () => {
    const client = new RawClient();
    client.send(client.blocks.call(1, "x", "/no.Such/Method"));
    expect(client.take()).toMatchObject([
      {
        headers: {
          ":status": "200",
          "content-type": "application/grpc",
          "grpc-status": "12",
          "grpc-message": "no method /no.Such/Method",
        },
        flags: END,
      },
      { type: "RST_STREAM", error: "NO_ERROR" },
    ]);
    client.send(client.blocks.call(3));
    expect(client.takeSummary()).toEqual(["HEADERS 3 200", "DATA 3 10", "HEADERS 3 0"]);
  });

  test("an unknown grpc-encoding: UNIMPLEMENTED, with the encodings that are known", () => {
    const client = new RawClient();
    client.send(client.blocks.headers(1, withField("grpc-encoding", "snappy")));
    expect(client.take()[0]?.headers).toMatchObject({
      "grpc-status": "12",
      "grpc-accept-encoding": "identity,gzip",
    });
  });
});

describe("messages", () => {
  test("many in one frame, and one in many frames, come one by one and in order", () => {
    const client = openStream();
    const bytes = Buffer.concat([message("one"), message(""), message("three")]);
    client.send(frame(FRAME.DATA, 0, 1, bytes));
    for (const byte of bytes) client.send(frame(FRAME.DATA, 0, 1, Buffer.from([byte])));
    client.send(frame(FRAME.DATA, FLAG.END_STREAM, 1));
    const three = ["message one", "message ", "message three"];
    expect(client.saw().events).toEqual([...three, ...three, "half-close"]);
  });

  test("larger than the limit: RESOURCE_EXHAUSTED as soon as its length is known", () => {
    const client = openStream(new RawClient({ limits: { maxMessageBytes: 1000 } }));
    client.send(frame(FRAME.DATA, 0, 1, message(Buffer.alloc(1001)).subarray(0, 5)));
    expect(client.takeSummary()).toEqual(["HEADERS 1 8", "RST_STREAM 1 NO_ERROR"]);
    expect(client.saw().events).toEqual(["cancel reset"]);
  });

  test("as large as the limit, and larger than the stream's window, is taken", () => {
    const limits = { maxMessageBytes: 300_000, streamWindowBytes: 65_535 };
    const client = openStream(new RawClient({ limits }));
    const bytes = message(Buffer.alloc(300_000));
    let window = 65_535;
    for (let start = 0; start < bytes.length; start += 16_000) {
      const part = bytes.subarray(start, start + 16_000);
      for (const update of client.take()) {
        if (update.streamId === 1) window += update.payload.readUInt32BE(0);
      }
      window -= part.length;
      expect(window).toBeGreaterThanOrEqual(0);
      client.send(frame(FRAME.DATA, 0, 1, part));
    }
    expect(client.saw().events).toHaveLength(1);
  });

  test("gzip is undone, message by message", () => {
    const client = new RawClient();
    client.send(client.blocks.headers(1, withField("grpc-encoding", "gzip")));
    const bytes = Buffer.concat([message(gzipSync("packed"), 1), message("plain")]);
    client.send(frame(FRAME.DATA, 0, 1, bytes));
    expect(client.saw().events).toEqual(["message packed", "message plain"]);
  });

  test("gzip that unfolds beyond the limit: RESOURCE_EXHAUSTED", () => {
    const client = new RawClient({ limits: { maxMessageBytes: 100_000 } });
    client.send(client.blocks.headers(1, withField("grpc-encoding", "gzip")));
    client.send(frame(FRAME.DATA, 0, 1, message(gzipSync(Buffer.alloc(10_000_000)), 1)));
    expect(client.takeSummary()).toEqual(["HEADERS 1 8", "RST_STREAM 1 NO_ERROR"]);
  });

  test.each([
    ["garbage in place of gzip", "gzip", message("nonsense", 1)],
    ["a compressed message without grpc-encoding", "identity", message(gzipSync("x"), 1)],
    ["an unknown flag", "identity", message("x", 2)],
  ])("%s: INTERNAL", (_, encoding, bytes) => {
    const client = new RawClient();
    client.send(client.blocks.headers(1, withField("grpc-encoding", encoding)));
    client.send(frame(FRAME.DATA, 0, 1, bytes));
    expect(client.takeSummary()).toEqual(["HEADERS 1 13", "RST_STREAM 1 NO_ERROR"]);
  });

  test("a request that ends inside of a message: INTERNAL", () => {
    const client = openStream();
    client.send(frame(FRAME.DATA, FLAG.END_STREAM, 1, message("hello").subarray(0, 7)));
    expect(client.takeSummary()).toEqual(["HEADERS 1 13"]);
    expect(client.saw().events).toEqual(["cancel reset"]);
  });

  test.each([
    ["no message", []],
    ["two messages", [message("a"), message("b")]],
  ])("%s in a unary call: INTERNAL", (_, messages) => {
    const client = new RawClient();
    client.send(client.blocks.headers(1, callFields()));
    client.send(frame(FRAME.DATA, FLAG.END_STREAM, 1, Buffer.concat(messages)));
    expect(client.takeSummary()[0]).toBe("HEADERS 1 13");
    client.send(client.blocks.call(3));
    expect(client.takeSummary()).toContain("HEADERS 3 0");
  });

  test("incomplete messages of all calls share one budget", () => {
    const client = new RawClient({ limits: { maxAssemblyBytes: 40_000 } });
    for (const id of [1, 3, 5]) {
      client.send(client.blocks.headers(id, callFields(stream)));
      client.send(frame(FRAME.DATA, 0, id, message(Buffer.alloc(100_000)).subarray(0, 1000)));
    }
    expect(client.takeSummary()).toEqual(["HEADERS 5 8", "RST_STREAM 5 NO_ERROR"]);
    client.send(frame(FRAME.RST_STREAM, 0, 1, uint32(8)));
    client.send(client.blocks.headers(7, callFields(stream)));
    client.send(frame(FRAME.DATA, 0, 7, message(Buffer.alloc(100_000)).subarray(0, 1000)));
    expect(client.take()).toEqual([]);
  });
});

describe("answers", () => {
  test("a unary answer is headers, one message and trailers, and costs few bytes when it repeats", () => {
    const client = new RawClient();
    client.send(client.blocks.call(1), client.blocks.call(3));
    const frames = client.take();
    expect(frames.map(({ type, flags }) => [type, flags])).toEqual([
      ["HEADERS", FLAG.END_HEADERS],
      ["DATA", 0],
      ["HEADERS", END],
      ["HEADERS", FLAG.END_HEADERS],
      ["DATA", 0],
      ["HEADERS", END],
    ]);
    expect(frames[0]?.headers).toEqual({ ":status": "200", "content-type": "application/grpc" });
    expect(frames[3]?.payload).toHaveLength(2);
    expect(frames[5]?.payload).toHaveLength(1);
  });

  test("many answers of one turn lie in one piece", () => {
    const client = new RawClient();
    client.send(...[1, 3, 5, 7, 9].map((id) => client.blocks.call(id)));
    expect(client.server.takeOutput()).toHaveLength(1);
  });

  test("custom metadata, text and binary, goes both ways", () => {
    const client = new RawClient();
    client.send(
      client.blocks.headers(1, callFields(stream, ["x-text", "a b"], ["x-bytes-bin", "AAEC/w"])),
    );
    const { call } = client.saw();
    expect(call.headers.get("x-text")).toBe("a b");
    expect(call.headers.getBinary("x-bytes-bin")).toEqual(Buffer.from([0, 1, 2, 255]));
    call.sendHeaders([["x-head", "1"]]);
    call.finish(0, "", [["x-tail-bin", Buffer.from([0, 1, 2, 255])]]);
    expect(client.take()).toMatchObject([
      { headers: { "x-head": "1" } },
      { headers: { "grpc-status": "0", "x-tail-bin": "AAEC/w" } },
      { type: "RST_STREAM" },
    ]);
  });

  test.each([
    ["an upper-case name", [["X-Up", "1"]]],
    ["a reserved name", [["grpc-status", "0"]]],
    ["a line break", [["x-a", "1\n2"]]],
    ["text in a binary field", [["x-bin", "1"]]],
  ] as const)("metadata with %s is a programming mistake and throws", (_, metadata) => {
    const client = openStream();
    expect(() => client.saw().call.finish(0, "", metadata)).toThrow(TypeError);
  });

  test("sends after the end do nothing", () => {
    const client = openStream();
    const { call } = client.saw();
    call.finish(5, "gone");
    client.take();
    call.sendHeaders();
    call.sendMessage(Buffer.from("x"));
    call.respond(Buffer.from("x"));
    call.finish(0);
    expect(call.isOver).toBe(true);
    expect(client.take()).toEqual([]);
  });

  test("an answer may come long after the request", () => {
    const client = openStream();
    client.send(frame(FRAME.DATA, FLAG.END_STREAM, 1, message("q")));
    expect(client.take()).toEqual([]);
    const before = client.outputSignals;
    client.saw().call.respond(Buffer.from("late"));
    expect(client.outputSignals).toBe(before + 1);
    expect(client.takeSummary()).toEqual(["HEADERS 1 200", "DATA 1 9", "HEADERS 1 0"]);
  });

  test("a receiver that throws is answered INTERNAL, without its words", () => {
    const receivers = {
      Throws: unary(() => {
        throw new Error("secret path /etc");
      }),
    };
    const client = new RawClient({ receivers });
    client.send(client.blocks.call(1, "x", "/test.Echo/Throws"));
    expect(client.take()[0]?.headers).toMatchObject({
      "grpc-status": "13",
      "grpc-message": "internal error",
    });
    expect(client.errors).toHaveLength(1);
  });

  test("pieces of one message go out as one message", () => {
    const client = openStream();
    client.saw().call.sendMessage([Buffer.from("ab"), Buffer.alloc(0), Buffer.alloc(9000, 99)]);
    const [, data] = client.take();
    expect(data?.payload).toEqual(
      message(Buffer.concat([Buffer.from("ab"), Buffer.alloc(9000, 99)])),
    );
  });
});

describe("back-pressure", () => {
  test("sendMessage says when it is enough, and onDrain when to go on", () => {
    const client = openStream(new RawClient({ limits: { sendQueueBytes: 100_000 } }));
    const { call } = client.saw();
    expect(call.writableBytes).toBe(100_000);
    expect(call.sendMessage(Buffer.alloc(60_000))).toBe(true);
    expect(call.sendMessage(Buffer.alloc(60_000))).toBe(false);
    expect(call.writableBytes).toBe(0);
    client.take();
    expect(client.saw().events).toEqual([]);
    client.send(frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(100_000)));
    client.send(frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(100_000)));
    client.take();
    expect(client.saw().events).toEqual(["drain"]);
  });

  test("no more is framed than the transport takes", () => {
    const client = openStream(new RawClient({ limits: { maxOutputBytes: 100_000 } }));
    client.send(frame(FRAME.SETTINGS, 0, 0, settings([4, 10_000_000])));
    client.send(frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(10_000_000)));
    for (let round = 0; round < 10; round += 1)
      client.saw().call.sendMessage(Buffer.alloc(100_000));
    const first = client.take().filter(({ type }) => type === "DATA");
    expect(first.length).toBeLessThan(10);
    const rest = client.take().filter(({ type }) => type === "DATA");
    expect(rest.length).toBeGreaterThan(0);
  });

  test("with manualConsume windows open only for what was consumed", () => {
    const receivers = { Hold: { manualConsume: true, onMessage() {}, onHalfClose() {} } };
    const limits = { streamWindowBytes: 65_535, connectionWindowBytes: 65_535 };
    const client = new RawClient({ receivers, limits });
    client.send(client.blocks.headers(1, callFields("/test.Echo/Hold")));
    for (let round = 0; round < 4; round += 1) {
      client.send(frame(FRAME.DATA, 0, 1, message(Buffer.alloc(16_000))));
    }
    expect(client.take()).toEqual([]);
    client.saw().call.consumed(3);
    const updates = client.take();
    expect(
      updates.map(({ type, streamId, payload }) => [type, streamId, payload.readUInt32BE(0)]),
    ).toEqual([
      ["WINDOW_UPDATE", 0, 48_015],
      ["WINDOW_UPDATE", 1, 48_015],
    ]);
  });

  test("messages that a cancelled call held are given back to the connection's window", () => {
    const receivers = { Hold: { manualConsume: true, onMessage() {}, onHalfClose() {} } };
    const client = new RawClient({ receivers, limits: { connectionWindowBytes: 65_535 } });
    client.send(client.blocks.headers(1, callFields("/test.Echo/Hold")));
    for (let round = 0; round < 4; round += 1) {
      client.send(frame(FRAME.DATA, 0, 1, message(Buffer.alloc(16_000))));
    }
    client.send(frame(FRAME.RST_STREAM, 0, 1, uint32(8)));
    expect(client.take()).toMatchObject([{ type: "WINDOW_UPDATE", streamId: 0 }]);
  });
});

describe("deadlines", () => {
  test("a call whose time is up is answered DEADLINE_EXCEEDED and cancelled", () => {
    const client = new RawClient();
    client.send(client.blocks.headers(1, callFields(stream, ["grpc-timeout", "100m"])));
    expect(client.saw().call.deadlineMs).toBe(client.nowMs + 100);
    expect(client.server.nextTickMs).toBe(client.nowMs + 100);
    expect(client.pass(99).take()).toEqual([]);
    expect(client.pass(1).takeSummary()).toEqual(["HEADERS 1 4", "RST_STREAM 1 NO_ERROR"]);
    expect(client.saw().events).toEqual(["cancel deadline"]);
  });

  test("an answer that waits for a window when the time is up is given up", () => {
    const client = new RawClient();
    client.send(frame(FRAME.SETTINGS, 0, 0, settings([4, 0])));
    client.send(client.blocks.headers(1, callFields(stream, ["grpc-timeout", "1S"])));
    client.saw().call.respond(Buffer.from("x"));
    client.take();
    expect(client.pass(1000).takeSummary()).toEqual(["RST_STREAM 1 CANCEL"]);
    expect(client.saw().events).toEqual([]);
  });

  test.each(["", "1", "S", "123456789S", "1.5S", "-1S", "1s"])(
    "the grpc-timeout %j: INTERNAL",
    (timeout) => {
      const client = new RawClient();
      client.send(client.blocks.headers(1, callFields(stream, ["grpc-timeout", timeout])));
      expect(client.takeSummary()[0]).toBe("HEADERS 1 13");
    },
  );

  test.each([
    ["1H", 3_600_000],
    ["2M", 120_000],
    ["99999999S", 99_999_999_000],
    ["5m", 5],
    ["1500u", 1.5],
    ["1000000n", 1],
  ])("%s are %i ms", (text, ms) => expect(parseTimeoutMs(text)).toBeCloseTo(ms));

  test.each([1e-9, 0.5, 1, 99_999, 100_000, 1e9, 1e12])(
    "%d ms are formatted so that they hold",
    (ms) => {
      const parsed = parseTimeoutMs(formatTimeout(ms)) ?? 0;
      expect(parsed).toBeGreaterThanOrEqual(ms * 0.999_999);
      expect(parsed).toBeLessThanOrEqual(ms * 1.2 + 0.001);
    },
  );
});

describe("status messages", () => {
  test.each([
    ["plain text", "plain text"],
    ["100 %", "100%20%25"],
    ["zwei\nZeilen", "zwei%0AZeilen"],
    ["größer", "gr%C3%B6%C3%9Fer"],
  ])("%j is sent as %j and read back", (text, encoded) => {
    expect(formatStatusMessage(text)).toBe(encoded);
    expect(parseStatusMessage(encoded)).toBe(text);
  });

  test("what is no percent-encoding is read as it is", () => {
    expect(parseStatusMessage("50% of %zz%41")).toBe("50% of %zzA");
  });
});
