import fc from "fast-check";
import { expect, test } from "vitest";

import { CACHE_PERMISSIONS, type CachePermission } from "./cache-permission.ts";
import {
  ADMIN_NAMESPACE,
  ATTIC_NAMESPACE,
  formatTokenClaims,
  parseTokenClaims,
  permissionsFor,
  type TokenClaims,
} from "./token-claims.ts";
import type { TokenGrant } from "./token-grant.ts";

function claimsOf(caches: unknown): TokenClaims {
  return parseTokenClaims({ [ATTIC_NAMESPACE]: { caches } });
}

function permissions(...names: CachePermission[]): ReadonlySet<CachePermission> {
  return new Set(names);
}

test("an exact name decides before any pattern", () => {
  const claims = claimsOf({ "*": { r: 1, w: 1 }, main: { r: 1 } });
  expect(permissionsFor(claims, "main")).toEqual(permissions("pull"));
  expect(permissionsFor(claims, "other")).toEqual(permissions("pull", "push"));
});

test("the first matching pattern decides, and grants are not added up", () => {
  const claims = claimsOf({ "team-*": { r: 1 }, "*": { w: 1 } });
  expect(permissionsFor(claims, "team-a")).toEqual(permissions("pull"));
  expect(permissionsFor(claims, "else")).toEqual(permissions("push"));
});

test("no match grants nothing, to administrators neither", () => {
  const claims = parseTokenClaims({
    [ATTIC_NAMESPACE]: { caches: {} },
    [ADMIN_NAMESPACE]: { admin: 1 },
  });
  expect(claims.isAdmin).toBe(true);
  expect(permissionsFor(claims, "main")).toEqual(permissions());
});

test("cache names that are properties of every object are ordinary names", () => {
  const claims = claimsOf(JSON.parse('{"constructor":{},"*":{"w":1}}'));
  expect(permissionsFor(claims, "constructor")).toEqual(permissions());
  expect(permissionsFor(claimsOf({}), "constructor")).toEqual(permissions());
});

test("every permission has Attic's letters, and unknown ones are ignored", () => {
  const claims = claimsOf({ a: { r: 1, w: 1, d: 1, cc: 1, cr: 1, cq: 1, cd: 1, zz: "new" } });
  expect(permissionsFor(claims, "a")).toEqual(permissions(...CACHE_PERMISSIONS));
});

test.each([
  ["no object", "text"],
  ["nothing", undefined],
  ["no namespace", { sub: "a" }],
  ["a namespace without caches", { [ATTIC_NAMESPACE]: {} }],
  ["true for 1", { [ATTIC_NAMESPACE]: { caches: { main: { r: true } } } }],
  ["2 for 1", { [ATTIC_NAMESPACE]: { caches: { main: { r: 2 } } } }],
  ["null for 0", { [ATTIC_NAMESPACE]: { caches: { main: { w: null } } } }],
  ["permissions that are no object", { [ATTIC_NAMESPACE]: { caches: { main: 1 } } }],
  ["a malformed pattern", { [ATTIC_NAMESPACE]: { caches: { "_api/*": { r: 1 } } } }],
  ["an empty pattern", { [ATTIC_NAMESPACE]: { caches: { "": { r: 1 } } } }],
  ["an expiry that is text", { exp: "1", [ATTIC_NAMESPACE]: { caches: {} } }],
  ["an expiry beyond time", { exp: 1e300, [ATTIC_NAMESPACE]: { caches: {} } }],
  ["an id that is no text", { jti: 7, [ATTIC_NAMESPACE]: { caches: {} } }],
  ["admin: true", { [ATTIC_NAMESPACE]: { caches: {} }, [ADMIN_NAMESPACE]: { admin: true } }],
])("a payload with %s is refused", (_, payload) => {
  expect(() => parseTokenClaims(payload)).toThrow(expect.objectContaining({ code: "INVALID" }));
});

test("the message names the claim", () => {
  expect(() => claimsOf({ main: { r: true } })).toThrow(/caches\.main\.r.*0 or 1/);
});

test("times are milliseconds, null is absent, one audience is a list", () => {
  const claims = parseTokenClaims({
    exp: 2,
    nbf: 1.5,
    sub: null,
    aud: "me",
    [ATTIC_NAMESPACE]: { caches: {} },
  });
  expect(claims).toMatchObject({ expiresAtMs: 2000, notBeforeMs: 1500, audiences: ["me"] });
  expect(claims.subject).toBeUndefined();
});

test("parse after format is identity", () => {
  const time = fc.option(
    fc.nat(4e9).map((seconds) => seconds * 1000),
    { nil: undefined },
  );
  const text = fc.option(fc.string(), { nil: undefined });
  const claims = fc.record({
    subject: text,
    jti: text,
    issuer: text,
    audiences: fc.option(fc.array(fc.string(), { minLength: 1 }), { nil: undefined }),
    expiresAtMs: time,
    notBeforeMs: time,
    // A leading letter: names that look like integers change places in a JavaScript object.
    caches: fc.uniqueArray(
      fc.tuple(
        fc.stringMatching(/^[a-z*][a-z0-9*+_-]{0,9}$/),
        fc.subarray([...CACHE_PERMISSIONS]).map((names) => new Set(names)),
      ),
      { selector: ([pattern]) => pattern, maxLength: 6 },
    ),
    isAdmin: fc.boolean(),
  });
  fc.assert(
    fc.property(claims, (value) => {
      const wire: unknown = JSON.parse(JSON.stringify(formatTokenClaims(value)));
      expect(parseTokenClaims(wire)).toEqual(value);
    }),
  );
});

test("a pattern given twice cannot be written", () => {
  const caches = [["a", permissions("pull")] as const, ["a", permissions("push")] as const];
  expect(() => formatTokenClaims({ caches, isAdmin: false })).toThrow(/given twice/);
});

const GRANT: TokenGrant = {
  tenant: "acme",
  trust: "overlay",
  principal: "github:https://token.actions.githubusercontent.com:owner/1:repo/2",
  run: "77",
  attempt: "1",
  commit: "abc",
  repository: "acme/site",
  ref: "refs/pull/12/merge",
  read: ["acme+main_pr-12", "acme+main"],
  write: "acme+main_pr-12",
  overlayOf: "acme+main",
  overlayKey: "0f",
  adopt: undefined,
  adopted: undefined,
  rule: "tenants.acme.scopes[0]",
  reason: "The job belongs to a pull request.",
};

test("a grant is read as it was written, with what it lacks as undefined", () => {
  const bare: TokenGrant = { ...GRANT, tenant: undefined, write: undefined, run: undefined };
  for (const grant of [GRANT, bare]) {
    const claims = { caches: [], isAdmin: false, grant };
    const payload: unknown = JSON.parse(JSON.stringify(formatTokenClaims(claims)));
    expect(parseTokenClaims(payload).grant).toStrictEqual(grant);
  }
});

test.each([
  ["an unknown trust", { ...GRANT, trust: "full" }],
  ["a missing principal", { ...GRANT, principal: undefined }],
  ["a view for a list", { ...GRANT, read: "acme+main" }],
])("a grant with %s makes the token worthless", (_, grant) => {
  const payload = { [ATTIC_NAMESPACE]: { caches: {} }, [ADMIN_NAMESPACE]: { grant } };
  expect(() => parseTokenClaims(payload)).toThrow(/grant/);
});
