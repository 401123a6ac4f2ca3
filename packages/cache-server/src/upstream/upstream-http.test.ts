import { expect, test } from "vitest";

import { UpstreamFault } from "./upstream-fault.ts";
import { toFault } from "./upstream-http.ts";

const ADDRESS = new URL("https://cache.example.org/secret-path?token=secret");

function failed(code: string): Error {
  return new TypeError("fetch failed", { cause: Object.assign(new Error("token"), { code }) });
}

test.each([
  ["CERT_NOT_YET_VALID", "clock"],
  ["CERT_HAS_EXPIRED", "clock"],
  ["DEPTH_ZERO_SELF_SIGNED_CERT", "certificate"],
  ["ERR_TLS_CERT_ALTNAME_INVALID", "certificate"],
  ["ECONNREFUSED", "unreachable"],
  ["ENOTFOUND", "unreachable"],
])("%s is %s, and says no more of the address than its host", (code, reason) => {
  const fault = toFault(failed(code), ADDRESS);
  expect(fault.reason).toBe(reason);
  expect(fault.message).toContain("cache.example.org");
  expect(fault.message).not.toContain("secret");
});

test("a fault within is that fault", () => {
  const inner = new UpstreamFault("private-address", "10.0.0.1");
  expect(toFault(new Error("connect", { cause: inner }), ADDRESS)).toBe(inner);
  expect(toFault(new AggregateError([inner]), ADDRESS)).toBe(inner);
});
