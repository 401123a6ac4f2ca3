import { expect, test } from "vitest";

import { isReadableOnTheWay, parseUpstreamUrl } from "./upstream-url.ts";

test.each([
  ["https://cache.nixos.org", "https://cache.nixos.org/"],
  ["http://127.0.0.1:8080/main", "http://127.0.0.1:8080/main/"],
  ["HTTPS://Cache.Example/a/b/", "https://cache.example/a/b/"],
])("%s is an upstream's address", (text, url) => {
  expect(parseUpstreamUrl(text)).toBe(url);
});

test.each([
  "",
  "cache.nixos.org",
  "file:///nix/store",
  "s3://bucket",
  "https://user:hunter2@cache.example/",
  "https://hunter2@cache.example/",
  "https://cache.example/?token=hunter2",
  "https://cache.example/?",
  "https://cache.example/#hunter2",
])("%j is refused, and no secret in it is repeated", (text) => {
  let failure: unknown;
  try {
    parseUpstreamUrl(text);
  } catch (error) {
    failure = error;
  }
  expect(failure).toMatchObject({ code: "INVALID" });
  expect(String(failure)).not.toContain("hunter2");
});

test("only plain HTTP that leaves the machine is readable on the way", () => {
  const hosts = ["127.0.0.1", "127.8.0.1:99", "localhost:1", "nix.localhost", "[::1]:8"];
  expect(hosts.filter((host) => isReadableOnTheWay(`http://${host}/`))).toEqual([]);
  const far = ["10.0.0.1", "cache.example", "127.0.0.1.example", "[::2]"];
  expect(far.filter((host) => isReadableOnTheWay(`http://${host}/`))).toEqual(far);
  expect(far.filter((host) => isReadableOnTheWay(`https://${host}/`))).toEqual([]);
});
