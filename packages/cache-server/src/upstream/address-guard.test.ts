import type { LookupAddress } from "node:dns";

import { describe, expect, test } from "vitest";

import { createAddressGuard, kindOfAddress } from "./address-guard.ts";

describe("addresses", () => {
  test.each([
    ["1.1.1.1", "public"],
    ["2606:4700::1111", "public"],
    ["127.0.0.1", "loopback"],
    ["127.255.0.9", "loopback"],
    ["::1", "loopback"],
    ["::ffff:127.0.0.1", "loopback"],
    ["10.1.2.3", "private"],
    ["172.31.0.1", "private"],
    ["172.32.0.1", "public"],
    ["192.168.1.1", "private"],
    ["100.64.0.1", "private"],
    ["fd00::1", "private"],
    ["::ffff:10.0.0.1", "private"],
    ["169.254.169.254", "link-local"],
    ["fe80::1", "link-local"],
    ["0.0.0.0", "reserved"],
    ["::", "reserved"],
    ["::a9fe:a9fe", "reserved"],
    ["64:ff9b::a9fe:a9fe", "reserved"],
    ["64:ff9b:1::a9fe:a9fe", "reserved"],
    ["fe80::1%eth0", "link-local"],
    ["192.88.99.1", "reserved"],
    ["2002:7f00:1::", "reserved"],
    ["224.0.0.1", "reserved"],
  ] as const)("%s is %s", (address, kind) => {
    expect(kindOfAddress(address)).toBe(kind);
  });
});

type Answers = Record<string, string[]>;

function guardOf(own: string, answers: Answers): ReturnType<typeof createAddressGuard> {
  return createAddressGuard(own, (host) => {
    const found = answers[host];
    if (found === undefined) return Promise.reject(new Error(`no such host ${host}`));
    return Promise.resolve(
      found.map((address): LookupAddress => ({
        address,
        family: address.includes(":") ? 6 : 4,
      })),
    );
  });
}

function connectTo(guard: ReturnType<typeof createAddressGuard>, host: string): Promise<unknown> {
  return new Promise((resolve) => {
    guard.lookup(host, { all: true }, (error, addresses) => resolve(error ?? addresses));
  });
}

const REFUSED = expect.objectContaining({ reason: "private-address" });

test("a public upstream leads to public addresses only, be they names or numbers", async () => {
  const guard = guardOf("cache.example.org", {
    "cache.example.org": ["1.1.1.1"],
    "bucket.example.com": ["8.8.8.8"],
    "evil.example.com": ["8.8.8.8", "169.254.169.254"],
  });
  expect(await connectTo(guard, "bucket.example.com")).toEqual([{ address: "8.8.8.8", family: 4 }]);
  expect(await connectTo(guard, "evil.example.com")).toEqual(REFUSED);
  await expect(guard.requireAllowed(new URL("http://[::1]:80/"))).rejects.toEqual(REFUSED);
  await expect(guard.requireAllowed(new URL("http://2130706433/"))).rejects.toEqual(REFUSED);
  await guard.requireAllowed(new URL("http://9.9.9.9/"));
});

test("an upstream in a private network leads there, but not to this machine itself", async () => {
  const guard = guardOf("nexus.corp", {
    "nexus.corp": ["10.0.0.5"],
    "store.corp": ["192.168.7.7"],
    localhost: ["127.0.0.1"],
  });
  expect(await connectTo(guard, "store.corp")).toHaveLength(1);
  expect(await connectTo(guard, "localhost")).toEqual(REFUSED);
  await expect(guard.requireAllowed(new URL("http://169.254.169.254/"))).rejects.toEqual(REFUSED);
});

test("an upstream whose own name moves into a private network is not followed there", async () => {
  const answers: Answers = { "cache.example.org": ["1.1.1.1"] };
  const guard = guardOf("cache.example.org", answers);
  expect(await connectTo(guard, "cache.example.org")).toHaveLength(1);
  answers["cache.example.org"] = ["127.0.0.1"];
  expect(await connectTo(guard, "cache.example.org")).toEqual(REFUSED);
});

test("an upstream whose own name was private for a moment, and then answers in public, leads to nothing private", async () => {
  const answers: Answers = { "cache.example.org": ["127.0.0.1"] };
  const guard = guardOf("cache.example.org", answers);
  expect(await connectTo(guard, "cache.example.org")).toHaveLength(1);
  await guard.requireAllowed(new URL("http://127.0.0.1/"));
  answers["cache.example.org"] = ["1.1.1.1"];
  expect(await connectTo(guard, "cache.example.org")).toHaveLength(1);
  await expect(guard.requireAllowed(new URL("http://127.0.0.1/"))).rejects.toEqual(REFUSED);
});

test("an upstream with a public address beside a private one is reached at both, and leads to nothing private", async () => {
  const guard = guardOf("nexus.corp", {
    "nexus.corp": ["10.0.0.5", "2606:4700::1111"],
    "store.corp": ["10.0.0.7"],
  });
  expect(await connectTo(guard, "nexus.corp")).toHaveLength(2);
  expect(await connectTo(guard, "store.corp")).toEqual(REFUSED);
});

test("while the upstream's own place is unknown nothing private is allowed, and it is asked again", async () => {
  const answers: Answers = {};
  const guard = guardOf("nexus.corp", answers);
  await expect(guard.requireAllowed(new URL("http://10.0.0.1/"))).rejects.toThrow(/no such host/);
  answers["nexus.corp"] = ["10.0.0.5"];
  await guard.requireAllowed(new URL("http://10.0.0.1/"));
});
