import { expect, test } from "vitest";

import { chooseEndpoint, parseServerUrl, requireViewName } from "./server-url.ts";

test.each([
  ["https://cache.example", "https://cache.example/"],
  ["https://cache.example/prefix", "https://cache.example/prefix/"],
  [" http://127.0.0.1:8080/?x=1#y ", "http://127.0.0.1:8080/"],
])("%j becomes %s", (text, href) => {
  expect(parseServerUrl(text).href).toBe(href);
});

test.each(["cache.example", "ftp://cache.example", "", "https://"])("%j is refused", (text) => {
  expect(() => parseServerUrl(text)).toThrow(expect.objectContaining({ code: "INVALID" }));
});

test.each(["https://user:s3cret@cache.example", "ftp://user:s3cret@cache.example"])(
  "credentials in an address are refused without being repeated",
  (text) => {
    expect(() => parseServerUrl(text)).toThrow(expect.objectContaining({ code: "INVALID" }));
    expect(() => parseServerUrl(text)).not.toThrow(/s3cret/);
  },
);

test("an announced endpoint is followed and normalized", () => {
  const base = parseServerUrl("https://cache.example");
  expect(chooseEndpoint(base, "https://api.example/v2").url.href).toBe("https://api.example/v2/");
  expect(chooseEndpoint(base, undefined).url.href).toBe("https://cache.example/");
});

test("an announced endpoint never leads from https down to http", () => {
  const base = parseServerUrl("https://cache.example");
  expect(chooseEndpoint(base, "http://cache.example/")).toMatchObject({
    url: base,
    warning: expect.stringContaining("unencrypted"),
  });
});

test.each(["main", "acme+main", "acme+main_pr-12", "Old_Attic-name"])(
  "%s is a view name",
  (view) => {
    expect(requireViewName(view)).toBe(view);
  },
);

test.each(["", "_api", "a/b", "..", "ä", "a".repeat(51)])("%j is no view name", (view) => {
  expect(() => requireViewName(view)).toThrow(expect.objectContaining({ code: "INVALID" }));
});
