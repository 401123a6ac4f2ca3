import fc from "fast-check";
import { expect, test } from "vitest";

import { formatNetrcBlock, netrcHost, parseNetrc, parseNetrcBlock } from "./netrc.ts";

test("entries are read as curl reads them", () => {
  const text = [
    "# machine comment.example password no",
    "machine a.example login alice password secret1",
    "machine b.example",
    "\tpassword secret2 login machine",
    "macdef init",
    "machine macro.example password no",
    "",
    'machine c.example password "with blank"',
    "default login anonymous password guest",
  ].join("\n");
  expect(parseNetrc(text)).toEqual([
    { host: "a.example", password: "secret1", line: 2 },
    { host: "b.example", password: "secret2", line: 3 },
    { host: "c.example", password: "with blank", line: 8 },
    { host: undefined, password: "guest", line: 9 },
  ]);
});

test("any text can be read", () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      expect(Array.isArray(parseNetrc(text))).toBe(true);
    }),
  );
});

test("parse after format is identity", () => {
  const host = fc.domain();
  const token = fc.stringMatching(/^[A-Za-z0-9_-]{1,20}(\.[A-Za-z0-9_-]{1,20}){2}$/);
  fc.assert(
    fc.property(fc.array(fc.record({ host, token })), (tokens) => {
      expect(parseNetrcBlock(formatNetrcBlock(tokens))).toEqual(tokens);
    }),
  );
});

test.each([
  ["http://127.0.0.1:8080/main", "127.0.0.1"],
  ["https://Cache.Example.org/a/main", "cache.example.org"],
  ["http://[::1]:8080/main", "::1"],
])("%s is looked up as %s", (url, host) => {
  expect(netrcHost(url)).toBe(host);
});
