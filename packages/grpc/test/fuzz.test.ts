import * as fc from "fast-check";
import { expect, test } from "vitest";

import type { FieldList } from "../src/hpack/encoder.ts";
import { FLAG, FRAME, PREFACE } from "../src/http2/protocol.ts";
import { RawClient } from "./raw-client.ts";
import {
  BlockWriter,
  callFields,
  frame,
  HELLO,
  message,
  type RawFrame,
  settings,
  uint32,
} from "./raw-frames.ts";

/** What a peer might send: mostly sensible, sometimes not. */
const streamId = fc.constantFrom(1, 1, 3, 3, 5, 7, 0, 2, 2 ** 31 - 1);
const path = fc.constantFrom("/test.Echo/Unary", "/test.Echo/Stream", "/test.Echo/Stream", "/none");
const extra: fc.Arbitrary<FieldList> = fc.array(
  fc.constantFrom<readonly [string, string]>(
    ["grpc-timeout", "5S"],
    ["grpc-encoding", "gzip"],
    ["content-length", "7"],
    ["x-a", "b"],
    ["connection", "close"],
    [":path", "/x"],
    ["X-Bad", "1"],
  ),
  { maxLength: 2 },
);
const body = fc.oneof(
  fc.uint8Array({ maxLength: 60 }),
  fc
    .array(fc.uint8Array({ maxLength: 30 }), { maxLength: 4 })
    .map((list) => Buffer.concat(list.map((it) => message(it)))),
);
type Step = (blocks: BlockWriter) => Buffer;
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.tuple(streamId, path, extra, fc.constantFrom(4, 4, 4, 5, 0)).map(
      ([id, name, more, flags]): Step =>
        (blocks) =>
          blocks.headers(id, callFields(name, ...more), flags),
    ),
  },
  {
    weight: 4,
    arbitrary: fc.tuple(streamId, body, fc.constantFrom(0, 0, 1, 8, 9)).map(
      ([id, bytes, flags]): Step =>
        () =>
          frame(FRAME.DATA, flags, id, bytes),
    ),
  },
  fc.tuple(streamId, fc.nat({ max: 100_000 })).map(
    ([id, value]): Step =>
      () =>
        frame(FRAME.WINDOW_UPDATE, 0, id, uint32(value)),
  ),
  fc.tuple(streamId, fc.nat(20)).map(
    ([id, code]): Step =>
      () =>
        frame(FRAME.RST_STREAM, 0, id, uint32(code)),
  ),
  fc.tuple(fc.nat(7), fc.nat({ max: 70_000 })).map(
    ([id, value]): Step =>
      () =>
        frame(FRAME.SETTINGS, 0, 0, settings([id, value])),
  ),
  fc.uint8Array({ minLength: 8, maxLength: 8 }).map(
    (bytes): Step =>
      () =>
        frame(FRAME.PING, 0, 0, bytes),
  ),
  fc.tuple(fc.nat(12), fc.nat(255), streamId, fc.uint8Array({ maxLength: 20 })).map(
    ([type, flags, id, bytes]): Step =>
      () =>
        frame(type, flags, id, bytes),
  ),
);

function build(steps: readonly Step[]): Buffer {
  const blocks = new BlockWriter();
  return Buffer.concat([HELLO, ...steps.map((make) => make(blocks))]);
}

/** Everything that is to be seen of a connection. */
function observe(client: RawClient): { frames: RawFrame[]; events: string[][]; isClosed: boolean } {
  return {
    frames: client.take(),
    events: client.seen.map(({ events }) => events),
    isClosed: client.server.isClosed,
  };
}

test("the same bytes give the same events and answers, however they are cut", () => {
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 25 }),
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 30 }),
      (steps, cuts) => {
        const bytes = build(steps);
        const whole = new RawClient({ isSilent: true });
        whole.send(bytes);
        const parts = new RawClient({ isSilent: true });
        for (let start = 0, round = 0; start < bytes.length; round += 1) {
          const end = start + (cuts[round % cuts.length] ?? 1);
          parts.send(bytes.subarray(start, end));
          start = end;
        }
        expect(observe(parts)).toEqual(observe(whole));
      },
    ),
    { numRuns: 400 },
  );
});

test("whatever frames come, the connection goes on or ends with GOAWAY, and every call gets its end once", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const client = new RawClient({ isSilent: true });
      client.send(build(steps));
      const frames = client.take();
      if (client.server.isClosed) expect(frames.at(-1)).toMatchObject({ type: "GOAWAY" });
      client.server.transportClosed();
      for (const { call, events } of client.seen) {
        expect(call.isOver).toBe(true);
        expect(events.filter((it) => it.startsWith("cancel")).length).toBeLessThanOrEqual(1);
        const end = events.findIndex((it) => it.startsWith("cancel"));
        if (end >= 0) expect(end).toBe(events.length - 1);
      }
      expect(client.errors).toEqual([]);
    }),
    { numRuns: 1000 },
  );
});

test("arbitrary bytes after the preface never throw", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 6 }), (chunks) => {
      const client = new RawClient({ isSilent: true });
      client.send(PREFACE, frame(FRAME.SETTINGS, 0, 0));
      for (const chunk of chunks) client.send(chunk);
      client.pass(100_000);
      expect(client.take().at(-1)).toMatchObject({ type: "GOAWAY" });
    }),
    { numRuns: 500 },
  );
});

test("sensible frames with a byte changed somewhere never throw", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), fc.nat(), fc.nat(255), (steps, at, value) => {
      const client = new RawClient({ isSilent: true });
      const bytes = build(steps);
      bytes[at % bytes.length] = value;
      client.send(bytes);
      client.pass(100_000);
      client.take();
      client.server.transportClosed();
      expect(client.server.isClosed).toBe(true);
    }),
    { numRuns: 1000 },
  );
});

test("flow control: whatever windows open and shut, every byte arrives once and in order, and none too early", () => {
  const turn = fc.record({
    kind: fc.constantFrom("stream", "connection", "initial", "take"),
    value: fc.integer({ min: 0, max: 60_000 }),
    id: fc.constantFrom(1, 3, 5),
  });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.constantFrom(1, 3, 5), fc.nat({ max: 70_000 })), { maxLength: 8 }),
      fc.array(turn, { maxLength: 30 }),
      (messages, turns) => {
        const client = new RawClient({ limits: { controlFrameBurst: 1e6 } });
        const windows = new Map([1, 3, 5].map((id) => [id, 65_535]));
        let connectionWindow = 65_535;
        let initial = 65_535;
        const got = new Map<number, Buffer[]>();
        const check = (): void => {
          for (const { type, streamId: id, payload } of client.take()) {
            if (type !== "DATA") continue;
            windows.set(id, (windows.get(id) ?? 0) - payload.length);
            connectionWindow -= payload.length;
            expect(windows.get(id)).toBeGreaterThanOrEqual(0);
            expect(connectionWindow).toBeGreaterThanOrEqual(0);
            got.set(id, [...(got.get(id) ?? []), Buffer.from(payload)]);
          }
        };
        for (const id of [1, 3, 5]) {
          client.send(client.blocks.headers(id, callFields("/test.Echo/Stream"), FLAG.END_HEADERS));
        }
        const calls = new Map([1, 3, 5].map((id, index) => [id, client.saw(index).call]));
        const sent = new Map<number, Buffer[]>();
        for (const [number, [id, length]] of messages.entries()) {
          const bytes = Buffer.alloc(length, number + 65);
          calls
            .get(id)
            ?.sendMessage(length % 2 === 0 ? bytes : [bytes.subarray(0, 7), bytes.subarray(7)]);
          sent.set(id, [...(sent.get(id) ?? []), message(bytes)]);
        }
        for (const { kind, value, id } of turns) {
          // Beyond its window nothing may be sent, so what was written counts before windows shrink.
          check();
          if (kind === "initial") {
            for (const it of windows.keys())
              windows.set(it, (windows.get(it) ?? 0) + value - initial);
            initial = value;
            client.send(frame(FRAME.SETTINGS, 0, 0, settings([4, value])));
          } else if (kind === "stream" && value > 0) {
            windows.set(id, (windows.get(id) ?? 0) + value);
            client.send(frame(FRAME.WINDOW_UPDATE, 0, id, uint32(value)));
          } else if (kind === "connection" && value > 0) {
            connectionWindow += value;
            client.send(frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(value)));
          }
        }
        check();
        client.send(frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(10_000_000)));
        connectionWindow += 10_000_000;
        for (const id of [1, 3, 5]) {
          client.send(frame(FRAME.WINDOW_UPDATE, 0, id, uint32(10_000_000)));
          windows.set(id, (windows.get(id) ?? 0) + 10_000_000);
        }
        check();
        check();
        for (const id of [1, 3, 5]) {
          expect(Buffer.concat(got.get(id) ?? []).equals(Buffer.concat(sent.get(id) ?? []))).toBe(
            true,
          );
        }
      },
    ),
    { numRuns: 300 },
  );
});
