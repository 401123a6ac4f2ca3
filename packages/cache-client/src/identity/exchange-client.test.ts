import { expect, test } from "vitest";

import { chooseAudience, createExchangeClient } from "./exchange-client.ts";

const discovered = (audience?: string) => ({ version: "1", audience, notices: [] });

test.each([
  ["https://cache.example.org", "https://cache.example.org"],
  ["https://cache.example.org/", "https://cache.example.org"],
  ["https://example.org/cache", "https://example.org/cache/"],
])("the server %s may ask for tokens for %s", (server, audience) => {
  expect(chooseAudience(server, discovered(audience), undefined)).toBe(audience);
});

test.each([
  ["https://cache.example.org", "https://other.example.org"],
  ["https://cache.example.org", "http://cache.example.org"],
  ["https://cache.example.org", "https://cache.example.org:8443"],
  ["https://cache.example.org", "https://cache.example.org.evil.example"],
  ["https://example.org/cache", "https://example.org/"],
])("the server %s may not ask for tokens for %s, unless the job says so", (server, audience) => {
  expect(() => chooseAudience(server, discovered(audience), undefined)).toThrow(/asks for/);
  expect(chooseAudience(server, discovered(audience), audience)).toBe(audience);
});

test("an audience that the job names is not replaced by the server's", () => {
  const own = "https://cache.example.org";
  expect(() => chooseAudience(own, discovered(own), "https://elsewhere.example")).toThrow(
    /asks for/,
  );
});

test("a server without a policy is told apart", () => {
  expect(() => chooseAudience("https://a.example", discovered(), undefined)).toThrow(
    expect.objectContaining({ code: "UNSUPPORTED" }),
  );
});

test.each([
  ["https://cache.example.org", true],
  ["http://127.0.0.1:7480", true],
  ["http://[::1]:7480", true],
  ["http://localhost", true],
  ["http://flywheel.cache.svc:7480", true],
  ["http://flywheel.cache.svc.cluster.local", true],
  ["http://cache.example.org", false],
  ["http://svc.example.org", false],
  ["http://10.0.0.1", false],
])("whether an identity token may be sent to %s: %s", (server, isAllowed) => {
  const create = () => createExchangeClient({ server });
  if (isAllowed) expect(create).not.toThrow();
  else expect(create).toThrow(/without TLS/);
});
