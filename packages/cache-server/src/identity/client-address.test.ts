import { expect, test } from "vitest";

import { clientAddress } from "./client-address.ts";

type AddressedRequest = Parameters<typeof clientAddress>[0];

function requestFrom(
  remoteAddress: string,
  headers: Record<string, string> = {},
): AddressedRequest {
  return { headers, socket: { remoteAddress } };
}

test.each([
  ["192.0.2.7", "192.0.2.7"],
  ["::ffff:192.0.2.7", "192.0.2.7"],
  ["::1", "0:0:0:0::/64"],
  ["2001:db8:0:1:aaaa::1", "2001:db8:0:1::/64"],
  ["2001:0db8::1", "2001:db8:0:0::/64"],
  ["fe80::1%eth0", "fe80:0:0:0::/64"],
])("%s counts as %s", (address, counted) => {
  expect(clientAddress(requestFrom(address), undefined)).toBe(counted);
});

test("a header counts only where the operator names it, and only its last address", () => {
  const request = requestFrom("10.0.0.1", { "x-forwarded-for": "198.51.100.1, 192.0.2.7" });
  expect(clientAddress(request, undefined)).toBe("10.0.0.1");
  expect(clientAddress(request, "X-Forwarded-For")).toBe("192.0.2.7");
  expect(clientAddress(request, "X-Real-IP")).toBe("10.0.0.1");
});
