import { expect, test, vi } from "vitest";

import { createFixedCredentials, createRenewedCredentials } from "./credentials.ts";

function makeToken(name: string, lifeSeconds: number): string {
  const encode = (value: object): string =>
    Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = { sub: name, nbf: 1000, exp: 1000 + lifeSeconds };
  return `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}.c2ln`;
}

test("a fixed token stays, whoever refuses it", async () => {
  const credentials = createFixedCredentials("secret");
  expect(await credentials.refused("secret")).toBe(false);
  expect(credentials.token()).toBe("secret");
});

test("a token is renewed when a fifth of its life is left", async () => {
  vi.useFakeTimers();
  try {
    const [first, second] = [makeToken("a", 100), makeToken("b", 100)];
    using credentials = createRenewedCredentials({
      token: first,
      renew: () => Promise.resolve(second),
    });
    await vi.advanceTimersByTimeAsync(79_000);
    expect(credentials.token()).toBe(first);
    await vi.advanceTimersByTimeAsync(1000);
    expect(credentials.token()).toBe(second);
  } finally {
    vi.useRealTimers();
  }
});

test("a failed renewal is tried again, and the present token used on", async () => {
  vi.useFakeTimers();
  try {
    const [first, second] = [makeToken("a", 100), makeToken("b", 100)];
    const renew = vi
      .fn<() => Promise<string>>()
      .mockRejectedValueOnce(new Error("the forge is down"))
      .mockResolvedValue(second);
    using credentials = createRenewedCredentials({ token: first, renew });
    await vi.advanceTimersByTimeAsync(80_000);
    expect(credentials.token()).toBe(first);
    await vi.advanceTimersByTimeAsync(15_000);
    expect(credentials.token()).toBe(second);
  } finally {
    vi.useRealTimers();
  }
});

test("many refusals at once lead to one renewal, later ones of the old token to none", async () => {
  const [first, second] = [makeToken("a", 3600), makeToken("b", 3600)];
  const pending = Promise.withResolvers<string>();
  const renew = vi.fn<() => Promise<string>>(() => pending.promise);
  const told: string[] = [];
  using credentials = createRenewedCredentials({
    token: first,
    renew,
    onRenewed: async (token) => void told.push(token),
  });
  const refusals = Promise.all([1, 2, 3].map(() => credentials.refused(first)));
  pending.resolve(second);
  expect(await refusals).toEqual([true, true, true]);
  expect(await credentials.refused(first)).toBe(true);
  expect([renew.mock.calls.length, told]).toEqual([1, [second]]);
});

test("a new token that is refused as well is not renewed again at once", async () => {
  let nowMs = 0;
  const renew = vi.fn<() => Promise<string>>(() => Promise.resolve(makeToken("b", 3600)));
  using credentials = createRenewedCredentials({
    token: makeToken("a", 3600),
    renew,
    nowMs: () => nowMs,
  });
  await credentials.refused(credentials.token());
  expect(await credentials.refused(credentials.token())).toBe(false);
  nowMs = 10_000;
  expect(await credentials.refused(credentials.token())).toBe(true);
  expect(renew.mock.calls.length).toBe(2);
});
