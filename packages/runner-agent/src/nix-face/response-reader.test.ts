import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { createResponseReader, type ResponseReader } from "./response-reader.ts";

function readAll(reader: ResponseReader, pieces: readonly Buffer[]): Buffer {
  // A piece's memory is the reader's only until the next.
  return Buffer.concat(pieces.map((piece) => Buffer.from(reader.read(Buffer.from(piece)))));
}

function cut(bytes: Buffer, at: readonly number[]): Buffer[] {
  const places = [0, ...at.map((place) => place % (bytes.length + 1)), bytes.length].toSorted(
    (one, other) => one - other,
  );
  return places.slice(1).map((place, index) => bytes.subarray(places[index], place));
}

function formatChunked(chunks: readonly Buffer[], trailer: string): Buffer {
  const parts = chunks
    .filter(({ length }) => length > 0)
    .flatMap((chunk) => [`${chunk.length.toString(16)};a=b\r\n`, chunk, "\r\n"]);
  return Buffer.concat([...parts, `0\r\n${trailer}\r\n`].map((part) => Buffer.from(part)));
}

const bytes = fc.uint8Array({ maxLength: 300 }).map((given) => Buffer.from(given));
const cuts = fc.array(fc.nat(), { maxLength: 12 });

test("a body with a length is found however the bytes are cut", () => {
  fc.assert(
    fc.property(bytes, cuts, fc.boolean(), (body, at, hasHints) => {
      const hints = hasHints ? "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" : "";
      const head = `${hints}HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\nETag: "1"\r\n\r\n`;
      const reader = createResponseReader();
      const found = readAll(reader, cut(Buffer.concat([Buffer.from(head), body]), at));
      expect(found).toEqual(body);
      expect(reader.head?.headers.get("etag")).toBe('"1"');
      expect([reader.isComplete, reader.isReusable]).toEqual([true, true]);
      reader.end();
    }),
  );
});

test("a chunked body is put together, its trailer left out", () => {
  fc.assert(
    fc.property(fc.array(bytes), cuts, fc.constantFrom("", "x: y\r\n"), (chunks, at, trailer) => {
      const head = Buffer.from("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
      const reader = createResponseReader();
      const whole = Buffer.concat([head, formatChunked(chunks, trailer)]);
      expect(readAll(reader, cut(whole, at))).toEqual(Buffer.concat(chunks));
      expect(reader.isComplete).toBe(true);
    }),
  );
});

test("a body without a length goes on to the connection's end, which is its last", () => {
  const reader = createResponseReader();
  const found = readAll(reader, cut(Buffer.from("HTTP/1.0 200 OK\r\n\r\nsome bytes"), [22]));
  expect(found.toString()).toBe("some bytes");
  expect(reader.isComplete).toBe(false);
  reader.end();
  expect([reader.isComplete, reader.isReusable]).toEqual([true, false]);
});

test("what ends before its end is truncated, wherever that is", () => {
  const text = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
  for (let length = 0; length < text.length; length += 1) {
    const reader = createResponseReader();
    reader.read(Buffer.from(text.slice(0, length)));
    expect(() => reader.end()).toThrow("The connection ended early");
  }
});

test.each([
  ["connection: close\r\n", false],
  ["connection: keep-alive\r\n", true],
])("%j says whether the connection is good for more", (line, isReusable) => {
  const reader = createResponseReader();
  reader.read(Buffer.from(`HTTP/1.1 204 No Content\r\n${line}\r\n`));
  expect([reader.isComplete, reader.isReusable]).toEqual([true, isReusable]);
});

describe("is refused", () => {
  test.each([
    ["another protocol", "SSH-2.0-x\r\n\r\n"],
    ["a header without a name", "HTTP/1.1 200 OK\r\n: x\r\n\r\n"],
    ["a length that is none", "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"],
    ["a chunk without a size", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n"],
    [
      "a chunk that is too long",
      "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
    ],
    ["more than the answer", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab"],
    ["a head without an end", "HTTP/1.1 200 OK\r\n".padEnd(100_000, "a")],
  ])("%s", (_, text) => {
    expect(() => createResponseReader().read(Buffer.from(text))).toThrow(/no HTTP\/1/);
  });
});
