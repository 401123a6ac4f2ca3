import fc from "fast-check";
import { expect, test } from "vitest";

import { type ClientConfig, parseClientConfig } from "./client-config.ts";

test("parse after format is identity", () => {
  const text = fc.option(fc.string(), { nil: undefined });
  const server = fc.record({ url: fc.webUrl(), token: text, view: text });
  const config = fc.record({
    defaultServer: text,
    servers: fc.dictionary(fc.string(), server, { noNullPrototype: true }),
  });
  fc.assert(
    fc.property(config, (value) => {
      const plain = JSON.parse(JSON.stringify(value)) as ClientConfig;
      expect(parseClientConfig(JSON.stringify(value), "f")).toEqual(plain);
    }),
  );
});

test.each([
  ["sesame", "no JSON"],
  ['"sesame"', "no object"],
  ['{"servers":["sesame"]}', "servers is no object"],
  ['{"servers":{"a":"sesame"}}', "servers.a is no object"],
  ['{"servers":{"a":{"token":"sesame"}}}', "servers.a.url is missing"],
  ['{"servers":{"a":{"url":"x","token":["sesame"]}}}', "servers.a.token is no text"],
  ['{"defaultServer":1}', "defaultServer is no text"],
])("%s is refused with its key and without its value", (source, what) => {
  expect(() => parseClientConfig(source, "/c.json")).toThrow(
    expect.objectContaining({
      code: "CONFIG",
      message: expect.stringMatching(new RegExp(`^/c\\.json.*${what}`)),
    }),
  );
  expect(() => parseClientConfig(source, "/c.json")).not.toThrow(/sesame/);
});
