import { encodeReadResponsePrefix } from "@glorious/reapi";
import * as fc from "fast-check";
import { expect, test } from "vitest";

import { ReadProgress } from "./read-progress.ts";

/** The wire form of a read's answer with these pieces of data. */
function answerOf(pieces: readonly Uint8Array[]): Buffer {
  return Buffer.concat(
    pieces.flatMap((data) => {
      const head = data.length === 0 ? Buffer.alloc(0) : encodeReadResponsePrefix(data.length);
      const prefix = Buffer.alloc(5);
      prefix.writeUInt32BE(head.length + data.length, 1);
      return [prefix, head, data];
    }),
  );
}

const PIECES = fc.array(fc.uint8Array({ maxLength: 300 }), { minLength: 1, maxLength: 6 });

test("however the bytes are cut, the data is counted, and the end of a message is known", () => {
  fc.assert(
    fc.property(PIECES, fc.array(fc.nat(100)), (pieces, cuts) => {
      const wire = answerOf(pieces);
      const progress = new ReadProgress();
      let at = 0;
      for (const cut of cuts) {
        progress.add(wire.subarray(at, at + cut));
        at += cut;
      }
      progress.add(wire.subarray(at));
      expect(progress).toMatchObject({
        dataBytes: pieces.reduce((sum, { length }) => sum + length, 0),
        missingBytes: 0,
        isResumable: true,
      });
    }),
  );
});

test("broken off anywhere, the rest of the data makes the messages whole, or it says that it cannot", () => {
  fc.assert(
    fc.property(PIECES, fc.nat(), (pieces, cut) => {
      const wire = answerOf(pieces);
      const data = Buffer.concat(pieces);
      const head = wire.subarray(0, cut % (wire.length + 1));
      const progress = new ReadProgress();
      progress.add(head);
      if (!progress.isResumable) return;
      const rest = data.subarray(progress.dataBytes);
      const open = rest.subarray(0, progress.missingBytes);
      expect(open.length).toBe(progress.missingBytes);
      const whole = new ReadProgress();
      whole.add(Buffer.concat([head, open, answerOf([rest.subarray(open.length)])]));
      expect(whole).toMatchObject({ dataBytes: data.length, isResumable: true });
    }),
  );
});

test.for([
  ["a compressed message", Buffer.from([1, 0, 0, 0, 1])],
  ["another field", Buffer.from([0, 0, 0, 0, 2, 0x08, 1])],
  ["a field after the data", Buffer.from([0, 0, 0, 0, 5, 0x52, 1, 0])],
] as const)("%s is not gone on with", ([, bytes]) => {
  const progress = new ReadProgress();
  progress.add(bytes);
  expect(progress.isResumable).toBe(false);
});
