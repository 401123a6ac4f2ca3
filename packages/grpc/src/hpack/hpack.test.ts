import * as fc from "fast-check";
import { describe, expect, test } from "vitest";

import { CompressionError, HpackDecoder } from "./decoder.ts";
import { type FieldList, HpackEncoder } from "./encoder.ts";
import type { HeaderList } from "./header-list.ts";
import {
  BAD_HUFFMAN,
  decodeHuffman,
  encodeHuffman,
  huffmanLength,
  huffmanRoom,
} from "./huffman.ts";
import { IntegerReader, writeInteger } from "./integer.ts";

const hex = (text: string): Buffer => Buffer.from(text.replace(/\s/g, ""), "hex");
const decode = (decoder: HpackDecoder, block: Uint8Array): HeaderList =>
  decoder.decode(block, 0, block.length);
const pairs = (list: HeaderList): FieldList => list.fields.map(({ name, value }) => [name, value]);
const createDecoder = (): HpackDecoder => new HpackDecoder(4096, 65_536);

describe("RFC 7541, appendix C", () => {
  test.each([
    [10, 5, "0a"],
    [1337, 5, "1f9a0a"],
    [42, 8, "2a"],
  ])("C.1: the integer %i with a %i-bit prefix is %s", (value, prefixBits, expected) => {
    const target = Buffer.alloc(8);
    const end = writeInteger(target, 0, 0, prefixBits, value);
    expect(target.subarray(0, end).toString("hex")).toBe(expected);
    expect(new IntegerReader().read(target, end, prefixBits)).toBe(value);
  });

  test.each<[string, string, FieldList]>([
    [
      "C.2.1 literal with indexing",
      "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
      [["custom-key", "custom-header"]],
    ],
    [
      "C.2.2 literal without indexing",
      "040c 2f73 616d 706c 652f 7061 7468",
      [[":path", "/sample/path"]],
    ],
    [
      "C.2.3 literal never indexed",
      "1008 7061 7373 776f 7264 0673 6563 7265 74",
      [["password", "secret"]],
    ],
    ["C.2.4 indexed", "82", [[":method", "GET"]]],
  ])("%s", (_, block, expected) => {
    expect(pairs(decode(createDecoder(), hex(block)))).toEqual(expected);
  });

  const requests: FieldList[] = [
    [
      [":method", "GET"],
      [":scheme", "http"],
      [":path", "/"],
      [":authority", "www.example.com"],
    ],
    [
      [":method", "GET"],
      [":scheme", "http"],
      [":path", "/"],
      [":authority", "www.example.com"],
      ["cache-control", "no-cache"],
    ],
    [
      [":method", "GET"],
      [":scheme", "https"],
      [":path", "/index.html"],
      [":authority", "www.example.com"],
      ["custom-key", "custom-value"],
    ],
  ];
  const huffmanRequests = [
    "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
    "8286 84be 5886 a8eb 1064 9cbf",
    "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
  ];

  test("C.3 requests without Huffman coding", () => {
    const blocks = [
      "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
      "8286 84be 5808 6e6f 2d63 6163 6865",
      "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    const decoder = createDecoder();
    expect(blocks.map((block) => pairs(decode(decoder, hex(block))))).toEqual(requests);
  });

  test("C.4 requests with Huffman coding, both ways", () => {
    const decoder = createDecoder();
    expect(huffmanRequests.map((block) => pairs(decode(decoder, hex(block))))).toEqual(requests);
    const encoder = new HpackEncoder(4096);
    expect(requests.map((fields) => encoder.encode(fields).toString("hex"))).toEqual(
      huffmanRequests.map((block) => hex(block).toString("hex")),
    );
  });

  const responses: FieldList[] = [
    [
      [":status", "302"],
      ["cache-control", "private"],
      ["date", "Mon, 21 Oct 2013 20:13:21 GMT"],
      ["location", "https://www.example.com"],
    ],
    [
      [":status", "307"],
      ["cache-control", "private"],
      ["date", "Mon, 21 Oct 2013 20:13:21 GMT"],
      ["location", "https://www.example.com"],
    ],
    [
      [":status", "200"],
      ["cache-control", "private"],
      ["date", "Mon, 21 Oct 2013 20:13:22 GMT"],
      ["location", "https://www.example.com"],
      ["content-encoding", "gzip"],
      ["set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"],
    ],
  ];

  test("C.5 responses in a table of 256 bytes, with evictions", () => {
    const decoder = createDecoder();
    const blocks = [
      `3fe101
       4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
       2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`,
      "4803 3330 37c1 c0bf",
      `88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a
       6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d
       6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31`,
    ];
    expect(blocks.map((block) => pairs(decode(decoder, hex(block))))).toEqual(responses);
  });

  test("C.6 responses with Huffman coding in a table of 256 bytes, with evictions", () => {
    const decoder = createDecoder();
    const blocks = [
      `3fe101
       4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d
       29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3`,
      "4883 640e ffc1 c0bf",
      `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d
       d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106
       3d50 07`,
    ];
    expect(blocks.map((block) => pairs(decode(decoder, hex(block))))).toEqual(responses);
  });
});

describe("decoding errors", () => {
  test.each([
    ["RFC 7541, 2.3.3: an index beyond both tables", "bf"],
    ["RFC 7541, 6.1: the index 0", "80"],
    ["RFC 7541, 5.1: an integer that does not end", "ff ff ff ff ff ff ff"],
    ["RFC 7541, 5.1: an integer cut off", "ff 80"],
    ["RFC 7541, 5.2: a string beyond the block", "00 0a 61"],
    ["RFC 7541, 5.2: a literal without its strings", "40"],
    ["RFC 7541, 5.2: Huffman padding longer than 7 bits", "00 82 1f ff 01 61"],
    ["RFC 7541, 5.2: Huffman padding that is not all ones", "00 81 18 01 61"],
    ["RFC 7541, 5.2: the end-of-string symbol", "00 84 ff ff ff ff 01 61"],
    ["RFC 7541, 4.2: a table size update after a field", "82 20"],
    ["RFC 7541, 6.3: a table size above the setting", "3f e2 1f"],
  ])("%s is refused", (_, block) => {
    expect(() => decode(createDecoder(), hex(block))).toThrow(CompressionError);
  });

  test("arbitrary bytes decode or are refused, nothing else", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 5 }), (blocks) => {
        const decoder = createDecoder();
        for (const block of blocks) {
          try {
            decode(decoder, block);
          } catch (error) {
            expect(error).toBeInstanceOf(CompressionError);
            return;
          }
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("limits", () => {
  test("a list above the limit is dropped, and the table stays right", () => {
    const decoder = new HpackDecoder(4096, 100);
    const list = decode(decoder, hex("4001 61 01 62 4001 63 01 64 4001 65 01 66 4001 67 01 68"));
    expect(list).toMatchObject({ isTooLarge: true, fields: [], sizeBytes: 4 * 34 });
    expect(pairs(decode(decoder, hex("c1")))).toEqual([["a", "b"]]);
  });

  test("a block that names one large entry thousands of times keeps none of them", () => {
    const decoder = createDecoder();
    const value = Buffer.alloc(4000, 0x78);
    decode(decoder, Buffer.concat([hex("4001 61 7f a1 1e"), value]));
    const list = decode(decoder, Buffer.alloc(60_000, 0xbe));
    expect(list).toMatchObject({ isTooLarge: true, fields: [] });
  });
});

describe("round trips", () => {
  const value = fc.oneof(
    fc.string({ unit: "grapheme-ascii", maxLength: 60 }),
    fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString("latin1")),
  );
  const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,20}$/);
  const fields = fc.array(fc.tuple(name, value), { maxLength: 12 });

  test("whatever is encoded decodes to itself, block after block, through changes of the table size", () => {
    const step = fc.record({
      fields,
      repeat: fc.integer({ min: 1, max: 3 }),
      sizes: fc.array(fc.integer({ min: 0, max: 5000 }), { maxLength: 2 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const encoder = new HpackEncoder(4096);
        const decoder = createDecoder();
        for (const { fields: list, repeat, sizes } of steps) {
          for (const size of sizes) encoder.setPeerTableBytes(size);
          for (let round = 0; round < repeat; round += 1) {
            expect(pairs(decode(decoder, encoder.encodeKept(list)))).toEqual(list);
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  test("Huffman coding of every string decodes to itself", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const text = Buffer.from(bytes).toString("latin1");
        const coded = Buffer.alloc(huffmanLength(text));
        expect(encodeHuffman(text, coded, 0)).toBe(coded.length);
        const target = Buffer.alloc(huffmanRoom(coded.length));
        const length = decodeHuffman(coded, 0, coded.length, target);
        expect(length).not.toBe(BAD_HUFFMAN);
        expect(target.toString("latin1", 0, length)).toBe(text);
      }),
    );
  });

  test("a repeated block is the very same list while the table stays as it is, and is read anew after a change", () => {
    const decoder = createDecoder();
    decode(decoder, hex("4001 61 01 62"));
    const first = decode(decoder, hex("be"));
    expect(decode(decoder, hex("be"))).toBe(first);
    decode(decoder, hex("4001 63 01 64"));
    expect(pairs(decode(decoder, hex("be")))).toEqual([["c", "d"]]);
  });
});
