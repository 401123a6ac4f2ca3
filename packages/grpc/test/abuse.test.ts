import { describe, expect, test } from "vitest";

import type { CallReceiver } from "../src/call-receiver.ts";
import type { FieldList } from "../src/hpack/encoder.ts";
import { FLAG, FRAME, PREFACE } from "../src/http2/protocol.ts";
import { RawClient } from "./raw-client.ts";
import { callFields, frame, HELLO, message, settings, uint32 } from "./raw-frames.ts";

const END = FLAG.END_HEADERS | FLAG.END_STREAM;
const stream = "/test.Echo/Stream";
const CALM = { type: "GOAWAY", error: "ENHANCE_YOUR_CALM" };

/** Sends until the server ends the connection; returns how often, and never more than `most`. */
function flood(client: RawClient, most: number, make: (round: number) => Uint8Array): number {
  for (let round = 0; round < most; round += 1) {
    client.send(make(round));
    if (client.server.isClosed) return round;
  }
  return most;
}

const openStream = (client: RawClient, id = 1): RawClient =>
  client.send(client.blocks.headers(id, callFields(stream)));

describe("floods end the connection with ENHANCE_YOUR_CALM", () => {
  const limits = { controlFrameBurst: 100, controlFramesPerSecond: 10 };

  test.each<[string, Uint8Array]>([
    ["PING", frame(FRAME.PING, 0, 0, "12345678")],
    ["PING answers that nobody asked for", frame(FRAME.PING, FLAG.ACK, 0, "12345678")],
    ["SETTINGS", frame(FRAME.SETTINGS, 0, 0, settings([4, 65_535]))],
    ["SETTINGS answers that nobody asked for", frame(FRAME.SETTINGS, FLAG.ACK, 0)],
    ["PRIORITY", frame(FRAME.PRIORITY, 0, 1, Buffer.alloc(5))],
    ["frames of unknown types", frame(0xfa, 0, 0)],
    ["empty DATA", frame(FRAME.DATA, 0, 1)],
    ["DATA with nothing but padding", frame(FRAME.DATA, FLAG.PADDED, 1, Buffer.from([3, 0, 0, 0]))],
    ["GOAWAY", frame(FRAME.GOAWAY, 0, 0, Buffer.alloc(8))],
  ])("%s", (_, bytes) => {
    const client = openStream(new RawClient({ limits }));
    // Taking the output does not help: the work was done.
    const rounds = flood(client, 1000, () => {
      client.take();
      return bytes;
    });
    expect(rounds).toBeGreaterThan(90);
    expect(rounds).toBeLessThanOrEqual(100);
    expect(client.take()).toMatchObject([CALM]);
    expect(client.saw().cancelled).toBe("connection");
  });

  test("PING at the rate that is allowed goes on for ever", () => {
    const client = new RawClient({ limits });
    for (let round = 0; round < 1000; round += 1) {
      client.nowMs += 100;
      client.send(frame(FRAME.PING, 0, 0, "12345678"));
      expect(client.take()).toHaveLength(1);
    }
  });

  test("WINDOW_UPDATE and RST_STREAM on closed streams", () => {
    for (const type of [FRAME.WINDOW_UPDATE, FRAME.RST_STREAM]) {
      const client = new RawClient({ limits });
      client.send(client.blocks.call(1));
      client.take();
      const bytes = frame(type, 0, 1, uint32(1));
      expect(flood(client, 1000, () => bytes)).toBeLessThanOrEqual(100);
      expect(client.take()).toMatchObject([CALM]);
    }
  });

  test("answers to PING that are not read, however slowly they are asked for", () => {
    const client = new RawClient();
    const bytes = frame(FRAME.PING, 0, 0, "12345678");
    const rounds = flood(client, 10_000, () => {
      client.nowMs += 100;
      return bytes;
    });
    expect(rounds).toBeLessThan(5000);
    expect(client.server.isClosed).toBe(true);
  });
});

describe("rapid reset", () => {
  const limits = { failedStreamBurst: 50, failedStreamsPerSecond: 10 };

  test("streams that are opened and cancelled at once", () => {
    const client = new RawClient({ limits });
    const rounds = flood(client, 1000, (round) =>
      Buffer.concat([
        client.blocks.headers(round * 2 + 1, callFields(stream)),
        frame(FRAME.RST_STREAM, 0, round * 2 + 1, uint32(8)),
      ]),
    );
    expect(rounds).toBe(50);
    expect(client.take().at(-1)).toMatchObject(CALM);
  });

  test("streams that are opened and made to be reset by us", () => {
    const client = new RawClient({ limits });
    const rounds = flood(client, 1000, (round) =>
      Buffer.concat([
        client.blocks.headers(round * 2 + 1, callFields(stream)),
        frame(FRAME.WINDOW_UPDATE, 0, round * 2 + 1, uint32(0)),
      ]),
    );
    expect(rounds).toBe(50);
    expect(client.take().at(-1)).toMatchObject(CALM);
  });

  test("malformed requests", () => {
    const client = new RawClient({ limits });
    const fields: FieldList = [[":method", "POST"]];
    const rounds = flood(client, 1000, (round) =>
      client.blocks.headers(round * 2 + 1, fields, END),
    );
    expect(rounds).toBe(50);
    expect(client.take().at(-1)).toMatchObject(CALM);
  });

  test("calls that are cancelled now and then do no harm", () => {
    const client = new RawClient({ limits });
    for (let round = 0; round < 1000; round += 1) {
      client.nowMs += 100;
      client.send(client.blocks.headers(round * 2 + 1, callFields(stream)));
      client.send(frame(FRAME.RST_STREAM, 0, round * 2 + 1, uint32(8)));
      client.take();
    }
    expect(client.server.isClosed).toBe(false);
  });
});

describe("header blocks", () => {
  test("CONTINUATION without end, of large frames: ends at maxHeaderBlockBytes", () => {
    const client = new RawClient({ limits: { maxHeaderBlockBytes: 64 * 1024 } });
    client.send(frame(FRAME.HEADERS, 0, 1, "\x82"));
    const rounds = flood(client, 1000, () => frame(FRAME.CONTINUATION, 0, 1, Buffer.alloc(16_000)));
    expect(rounds).toBeLessThanOrEqual(4);
    expect(client.take()).toMatchObject([CALM]);
  });

  test.each([0, 1])("CONTINUATION without end, of %i bytes: ends as a flood", (length) => {
    const client = new RawClient({ limits: { controlFrameBurst: 100 } });
    client.send(frame(FRAME.HEADERS, 0, 1, "\x82"));
    const rounds = flood(client, 1000, () => frame(FRAME.CONTINUATION, 0, 1, Buffer.alloc(length)));
    expect(rounds).toBeLessThanOrEqual(100);
    expect(client.take()).toMatchObject([CALM]);
  });

  test("a header block that does not end in time: the connection ends", () => {
    const client = new RawClient();
    client.send(frame(FRAME.HEADERS, 0, 1, "\x82"));
    for (let second = 0; second < 9; second += 1) {
      client.pass(1000).send(frame(FRAME.CONTINUATION, 0, 1, "\x82"));
    }
    expect(client.server.isClosed).toBe(false);
    expect(client.pass(2000).take()).toMatchObject([{ type: "GOAWAY" }]);
  });

  test("huge metadata: RESOURCE_EXHAUSTED, and the connection goes on", () => {
    const client = new RawClient();
    client.send(client.blocks.headers(1, callFields(stream, ["x-huge", "a".repeat(20_000)])));
    const [answer] = client.take();
    expect(answer?.headers).toMatchObject({ "grpc-status": "8" });
    expect(client.seen).toEqual([]);
    client.send(client.blocks.call(3));
    expect(client.takeSummary()).toContain("HEADERS 3 0");
  });

  test("an HPACK bomb: its list is not kept, and the connection goes on", () => {
    const client = new RawClient();
    const entry = Buffer.concat([
      Buffer.from([0x40, 1, 0x61, 0x7f, 0xa1, 0x1e]),
      Buffer.alloc(4000, 120),
    ]);
    const bomb = Buffer.concat([entry, Buffer.alloc(10_000, 0xbe)]);
    client.send(frame(FRAME.HEADERS, END, 1, bomb));
    expect(client.take()[0]?.headers?.["grpc-message"]).toContain("bytes; the limit is 16384");
  });
});

describe("streams", () => {
  test("10 000 streams at once: those above the limit are refused, a flood of them ends the connection", () => {
    const limits = {
      maxConcurrentStreams: 100,
      failedStreamBurst: 1000,
      failedStreamsPerSecond: 1,
    };
    const client = new RawClient({ limits });
    const rounds = flood(client, 10_000, (round) =>
      client.blocks.headers(round * 2 + 1, callFields(stream)),
    );
    expect(rounds).toBe(1100);
    expect(client.seen).toHaveLength(100);
    expect(client.seen.every(({ cancelled }) => cancelled === "connection")).toBe(true);
  });

  test("10 000 calls one after the other are fine", () => {
    const client = new RawClient();
    client.send(frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(1_000_000)));
    for (let round = 0; round < 10_000; round += 1) {
      client.send(client.blocks.call(round * 2 + 1));
      expect(client.takeSummary().at(-1)).toBe(`HEADERS ${round * 2 + 1} 0`);
    }
    expect(client.server.isClosed).toBe(false);
  });

  test("stream ids run out with the last one", () => {
    const client = new RawClient();
    client.send(client.blocks.call(2 ** 31 - 1));
    expect(client.takeSummary()).toEqual([
      "HEADERS 2147483647 200",
      "DATA 2147483647 10",
      "HEADERS 2147483647 0",
    ]);
  });
});

describe("slow readers", () => {
  test("a stream whose window stays shut is given up after sendStallMs", () => {
    const client = new RawClient();
    client.send(frame(FRAME.SETTINGS, 0, 0, settings([4, 0])));
    client.send(client.blocks.call(1));
    client.take();
    client.pass(60_000).send(frame(FRAME.PING, FLAG.ACK, 0, "12345678"));
    client.pass(59_000);
    client.take();
    expect(client.pass(1000).takeSummary()).toContain("RST_STREAM 1 CANCEL");
  });

  test("a stream that takes its answer in drops is given up too", () => {
    const client = new RawClient();
    client.send(frame(FRAME.SETTINGS, 0, 0, settings([4, 0])));
    client.send(client.blocks.call(1, Buffer.alloc(20_000)));
    client.take();
    let ended = false;
    for (let second = 0; second < 121 && !ended; second += 1) {
      client.pass(1000).send(frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(1)));
      ended = client.takeSummary().includes("RST_STREAM 1 CANCEL");
    }
    expect(ended).toBe(true);
  });

  test("a stream that is read steadily is never given up", () => {
    const client = openStream(new RawClient());
    client.send(frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(10_000_000)));
    client.saw().call.sendMessage(Buffer.alloc(1_000_000));
    for (let second = 0; second < 600; second += 1) {
      client.pass(1000).send(frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(1000)));
      expect(client.takeSummary()).not.toContain("RST_STREAM 1 CANCEL");
    }
  });

  test.each([0, 1])("the window of stream %i opened byte by byte is a flood", (id) => {
    const client = new RawClient({ limits: { controlFrameBurst: 100 } });
    client.send(frame(FRAME.SETTINGS, 0, 0, settings([4, id === 0 ? 200_000 : 0])));
    client.send(client.blocks.call(1, Buffer.alloc(100_000)));
    client.take();
    const bytes = frame(FRAME.WINDOW_UPDATE, 0, id, uint32(1));
    const rounds = flood(client, 1000, () => {
      if (!client.server.isClosed) client.server.takeOutput();
      return bytes;
    });
    expect(rounds).toBeGreaterThan(90);
    expect(rounds).toBeLessThan(110);
  });

  test("a large answer through windows that leave a tiny rest each time is no flood", () => {
    const client = new RawClient({ limits: { controlFrameBurst: 100 } });
    client.send(frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(1_000_000_000)));
    client.send(client.blocks.headers(1, callFields(stream)));
    for (let round = 0; round < 2000; round += 1) {
      client.saw().call.sendMessage(Buffer.alloc(16_390));
      client.send(frame(FRAME.WINDOW_UPDATE, 0, 1, uint32(16_390)));
      client.server.takeOutput();
    }
    expect(client.server.isClosed).toBe(false);
  });

  test("a transport that takes nothing: the connection ends after sendStallMs", () => {
    const client = new RawClient();
    client.send(client.blocks.call(1));
    for (let second = 0; second < 121; second += 1) {
      client.pass(1000);
      if (!client.server.isClosed) client.send(frame(FRAME.PING, FLAG.ACK, 0, "12345678"));
    }
    expect(client.server.isClosed).toBe(true);
  });

  test("an answer that comes late is not taken for a transport that takes nothing", () => {
    const client = openStream(new RawClient());
    for (let minute = 0; minute < 5; minute += 1) {
      client.pass(59_000).send(frame(FRAME.PING, FLAG.ACK, 0, "12345678"));
      client.pass(500).take();
      client.pass(500);
    }
    client.saw().call.sendMessage(Buffer.from("x"));
    client.pass(60_000);
    expect(client.server.isClosed).toBe(false);
  });

  test("requests whose answers are not read: reading is to pause, and who reads on ends", () => {
    const client = new RawClient();
    let pausedAt = 0;
    const rounds = flood(client, 1_000_000, (round) => {
      if (!client.server.wantsInput && pausedAt === 0) pausedAt = round;
      return client.blocks.call(round * 2 + 1, "x", "/no/method");
    });
    expect(pausedAt).toBeGreaterThan(0);
    expect(rounds).toBeGreaterThan(pausedAt);
    expect(client.take().at(-1)).toMatchObject(CALM);
  });
});

describe("time", () => {
  test("no preface: the connection ends after handshakeTimeoutMs", () => {
    const client = new RawClient({ isSilent: true });
    client.take();
    expect(client.server.nextTickMs).toBe(client.nowMs + 10_000);
    client.send(PREFACE.subarray(0, 10));
    expect(client.pass(10_000).take()).toMatchObject([{ type: "GOAWAY" }]);
  });

  test("a frame that stops half-way: the connection ends after handshakeTimeoutMs", () => {
    const client = new RawClient();
    client.send(frame(FRAME.PING, 0, 0, "12345678").subarray(0, 12));
    client.pass(1).send(Buffer.from("4"));
    expect(client.pass(11_000).take()).toMatchObject([{ type: "GOAWAY" }]);
  });

  test("a silent peer is asked with PING, and given up when it does not answer", () => {
    const client = openStream(new RawClient());
    expect(client.pass(60_000).takeSummary()).toEqual(["PING 0 8"]);
    expect(client.pass(19_000).take()).toEqual([]);
    client.pass(1000);
    expect(client.server.isClosed).toBe(true);
    expect(client.saw().cancelled).toBe("connection");
  });

  test("a peer that answers PING stays", () => {
    const client = openStream(new RawClient());
    for (let minute = 0; minute < 60; minute += 1) {
      const [ping] = client.pass(60_000).take();
      client.pass(1000).send(frame(FRAME.PING, FLAG.ACK, 0, ping!.payload));
    }
    expect(client.server.isClosed).toBe(false);
  });

  test("a connection without calls is drained after idleTimeoutMs", () => {
    const client = new RawClient({ limits: { keepAliveMs: 10_000_000 } });
    client.send(client.blocks.call(1));
    client.take();
    expect(client.pass(899_000).take()).toEqual([]);
    const [goAway, ping] = client.pass(1000).take();
    expect(goAway).toMatchObject({ type: "GOAWAY", error: "NO_ERROR" });
    client.send(frame(FRAME.PING, FLAG.ACK, 0, ping!.payload));
    expect(client.server.isClosed).toBe(true);
  });

  test("a drain ends after drainTimeoutMs, with calls that are still open", () => {
    const client = openStream(new RawClient());
    client.server.drain(client.nowMs);
    client.take();
    expect(client.pass(2000).take()).toMatchObject([{ type: "GOAWAY" }]);
    client.pass(58_000);
    expect(client.server.isClosed).toBe(true);
    expect(client.saw().cancelled).toBe("connection");
  });
});

describe("ends", () => {
  test("close cancels every call and says GOAWAY", () => {
    const client = openStream(openStream(new RawClient()), 3);
    client.server.close();
    expect(client.takeSummary()).toEqual(["GOAWAY 0 NO_ERROR"]);
    expect(client.seen.map(({ cancelled }) => cancelled)).toEqual(["connection", "connection"]);
  });

  test("a lost transport cancels every call, and nothing more is written", () => {
    const client = openStream(new RawClient());
    client.server.transportClosed();
    client.saw().call.finish(0);
    expect(client.saw().cancelled).toBe("connection");
    expect(client.take()).toEqual([]);
    expect(client.server.nextTickMs).toBe(Infinity);
  });

  test("a receiver may end the connection from inside of an event", () => {
    const receivers: Record<string, CallReceiver> = {
      Close: { onMessage: () => client.server.close(), onHalfClose() {} },
    };
    const client: RawClient = new RawClient({ receivers });
    client.send(
      client.blocks.headers(1, callFields("/test.Echo/Close")),
      frame(FRAME.DATA, 0, 1, Buffer.concat([message("a"), message("b")])),
      client.blocks.call(3),
    );
    expect(client.takeSummary()).toEqual(["GOAWAY 0 NO_ERROR"]);
    expect(client.seen).toHaveLength(1);
    expect(client.server.receive(HELLO, 0)).toBeUndefined();
  });
});
