import { gzipSync } from "node:zlib";

import { expect, test } from "vitest";

import { unary } from "../src/call-receiver.ts";
import { FLAG, FRAME } from "../src/http2/protocol.ts";
import type { MemoryLease, RequestMemory } from "../src/request-memory.ts";
import { RawClient } from "./raw-client.ts";
import { callFields, frame, message, uint32 } from "./raw-frames.ts";

const FIRST_WINDOW = 65_536;
const limits = { firstWindowBytes: FIRST_WINDOW, streamWindowBytes: 2 ** 20 };
const CANCEL = uint32(8);
const receivers = {
  Size: unary((call, request) => call.respond(Buffer.from(String(request.length)))),
};

/** Memory of a fixed size, given in the order in which it is asked for. */
function memoryOf(totalBytes: number): RequestMemory & { freeBytes: number } {
  type Wish = { sizeBytes: number; leastBytes: number; onGranted: () => void };
  let line: Wish[] = [];
  const serve = (): void => {
    while (line[0] !== undefined && line[0].leastBytes <= memory.freeBytes) {
      const [wish] = line.splice(0, 1) as [Wish];
      memory.freeBytes -= wish.leastBytes;
      wish.sizeBytes = wish.leastBytes;
      wish.onGranted();
    }
  };
  const memory = {
    freeBytes: totalBytes,
    ask(_call: unknown, { leastBytes }: { leastBytes: number }, onGranted: () => void) {
      const wish = { sizeBytes: 0, leastBytes, onGranted: () => {} };
      line.push(wish);
      serve();
      wish.onGranted = onGranted;
      const lease: MemoryLease = {
        get sizeBytes() {
          return wish.sizeBytes;
        },
        release() {
          line = line.filter((each) => each !== wish);
          memory.freeBytes += wish.sizeBytes;
          wish.sizeBytes = 0;
          serve();
        },
      };
      return lease;
    },
  };
  return memory;
}

/** Begins a call whose message has so many bytes, and sends what the first window allows. */
function begin(client: RawClient, id: number, body: Uint8Array, path = "/test.Echo/Size"): Buffer {
  client.send(client.blocks.headers(id, callFields(path)));
  const bytes = message(body);
  sendPieces(client, id, bytes.subarray(0, FIRST_WINDOW));
  return bytes.subarray(FIRST_WINDOW);
}

function sendPieces(client: RawClient, id: number, bytes: Uint8Array, end = 0): void {
  for (let from = 0; from < bytes.length; from += 16_384) {
    const isLast = from + 16_384 >= bytes.length;
    client.send(frame(FRAME.DATA, isLast ? end : 0, id, bytes.subarray(from, from + 16_384)));
  }
}

/** What each stream may send more than it could before. */
function opened(client: RawClient): Record<number, number> {
  const windows: Record<number, number> = {};
  for (const { type, streamId, payload } of client.take()) {
    if (type !== "WINDOW_UPDATE" || streamId === 0) continue;
    windows[streamId] = (windows[streamId] ?? 0) + payload.readUInt32BE();
  }
  return windows;
}

test("a message beyond the first window comes in when there is memory for it, which is given back", () => {
  const memory = memoryOf(300_000);
  const client = new RawClient({ limits, memory, receivers });
  const rest = begin(client, 1, Buffer.alloc(200_000, "x"));

  expect(memory.freeBytes).toBe(100_000);
  expect(opened(client)[1]).toBeGreaterThanOrEqual(rest.length);

  sendPieces(client, 1, rest, FLAG.END_STREAM);
  expect(client.takeSummary().at(-1)).toBe("HEADERS 1 0");
  expect(memory.freeBytes).toBe(300_000);
});

test("without memory a client is told to wait, while small calls go on, and its turn comes", () => {
  const memory = memoryOf(300_000);
  const client = new RawClient({ limits, memory, receivers });
  const first = begin(client, 1, Buffer.alloc(200_000, "x"));
  const second = begin(client, 3, Buffer.alloc(200_000, "y"));
  expect(opened(client)[3]).toBeUndefined();

  client.send(client.blocks.call(5, "small"));
  expect(client.takeSummary()).toContain("HEADERS 5 0");

  sendPieces(client, 1, first, FLAG.END_STREAM);
  expect(opened(client)[3]).toBeGreaterThanOrEqual(second.length);
  sendPieces(client, 3, second, FLAG.END_STREAM);
  expect(client.takeSummary().at(-1)).toBe("HEADERS 3 0");
  expect(memory.freeBytes).toBe(300_000);
});

test("who sends more than it was allowed is cut off", () => {
  const client = new RawClient({ limits, memory: memoryOf(100_000), receivers });
  const rest = begin(client, 1, Buffer.alloc(200_000, "x"));
  client.take();

  sendPieces(client, 1, rest.subarray(0, 16_384));

  expect(client.takeSummary()).toContain("RST_STREAM 1 FLOW_CONTROL_ERROR");
});

test("a call that is cancelled gives back what it has, and what it waits for", () => {
  const memory = memoryOf(300_000);
  const client = new RawClient({ limits, memory, receivers });
  begin(client, 1, Buffer.alloc(200_000, "x"));
  begin(client, 3, Buffer.alloc(250_000, "y"));
  begin(client, 5, Buffer.alloc(90_000, "z"));

  client.send(frame(FRAME.RST_STREAM, 0, 3, CANCEL));
  expect(memory.freeBytes).toBe(10_000);

  client.send(frame(FRAME.RST_STREAM, 0, 1, CANCEL), frame(FRAME.RST_STREAM, 0, 5, CANCEL));
  expect(memory.freeBytes).toBe(300_000);
});

test("a connection that breaks gives everything back", () => {
  const memory = memoryOf(300_000);
  const client = new RawClient({ limits, memory, receivers });
  begin(client, 1, Buffer.alloc(200_000, "x"));
  begin(client, 3, Buffer.alloc(250_000, "y"));

  client.server.transportClosed();

  expect(memory.freeBytes).toBe(300_000);
});

test("what is still made of a request keeps its memory, though the call was given up", () => {
  const memory = memoryOf(300_000);
  let letGo = (): void => {};
  const holding = {
    Hold: {
      onMessage(call: { holdMemory(): () => void }) {
        letGo = call.holdMemory();
      },
      onHalfClose() {},
    },
  };
  const client = new RawClient({ limits, memory, receivers: holding });
  const rest = begin(client, 1, Buffer.alloc(200_000, "x"), "/test.Echo/Hold");
  sendPieces(client, 1, rest);
  client.send(frame(FRAME.RST_STREAM, 0, 1, CANCEL));
  expect(memory.freeBytes).toBe(100_000);

  letGo();
  letGo();
  expect(memory.freeBytes).toBe(300_000);
});

test("who has memory and sends nothing loses it to those who wait", () => {
  const memory = memoryOf(300_000);
  const client = new RawClient({ limits: { ...limits, sendStallMs: 1000 }, memory, receivers });
  begin(client, 1, Buffer.alloc(200_000, "x"));
  begin(client, 3, Buffer.alloc(250_000, "y"));
  client.take();

  const ends: string[] = [];
  while (!client.saw(0).call.isOver) ends.push(...client.pass(1000).takeSummary());

  expect(ends).toContain("RST_STREAM 1 CANCEL");
  expect(client.saw(1).call.isOver).toBe(false);
  expect(memory.freeBytes).toBe(50_000);
});

test("a small message that would unpack to more than there is memory for is UNAVAILABLE", () => {
  const client = new RawClient({ limits, memory: memoryOf(100_000), receivers });
  const fields = callFields("/test.Echo/Unary", ["grpc-encoding", "gzip"]);
  client.send(client.blocks.headers(1, fields));
  client.send(
    frame(FRAME.DATA, FLAG.END_STREAM, 1, message(gzipSync(Buffer.alloc(200_000, "x")), 1)),
  );

  expect(client.takeSummary()).toContain("HEADERS 1 14");
});
