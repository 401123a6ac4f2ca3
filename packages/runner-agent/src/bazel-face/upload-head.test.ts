import { create, toBinary } from "@bufbuild/protobuf";
import { WriteRequestSchema } from "@glorious/reapi";
import * as fc from "fast-check";
import { expect, test } from "vitest";

import { UploadHead } from "./upload-head.ts";

test("the name is found however the bytes are cut", () => {
  fc.assert(
    fc.property(
      fc.string({ minLength: 1, maxLength: 600 }),
      fc.uint8Array({ maxLength: 50 }),
      fc.integer({ min: 1, max: 40 }),
      (resourceName, data, pieceBytes) => {
        const message = toBinary(
          WriteRequestSchema,
          create(WriteRequestSchema, { resourceName, data }),
        );
        const prefix = Buffer.alloc(5);
        prefix.writeUInt32BE(message.length, 1);
        const wire = Buffer.concat([prefix, message]);
        const head = new UploadHead();
        for (let at = 0; at < wire.length; at += pieceBytes) {
          head.add(wire.subarray(at, at + pieceBytes));
        }
        expect(head.resourceName).toBe(resourceName);
      },
    ),
  );
});

test.for([
  ["an upload that begins with its data", Buffer.from([0, 0, 0, 0, 2, 0x52, 0])],
  ["a compressed message", Buffer.from([1, 0, 0, 0, 2, 0x0a, 0])],
  ["a name without an end", Buffer.from([0, 0, 0, 0, 2, 0x0a, 0xff, 0xff, 0xff, 0xff])],
] as const)("%s has none", ([, bytes]) => {
  const head = new UploadHead();
  head.add(bytes);
  expect(head.resourceName).toBe("");
});
