import fc from "fast-check";
import { expect, test } from "vitest";

import type { CommonsVote } from "../index/commons-index.ts";
import { type Contributor, countTenants, mayStay } from "./agreement.ts";

function contributor(tenant: string | undefined, isContentAddressed = false): Contributor {
  return { view: `${tenant ?? ""}+main`, tenant, voice: tenant ?? "", isContentAddressed };
}

const CONTRIBUTORS = new Map([
  [1, contributor("acme")],
  [2, contributor("acme")],
  [3, contributor("globex", true)],
  [4, contributor(undefined)],
]);

function votes(...viewIds: readonly number[]): CommonsVote[] {
  return viewIds.map((viewId) => ({ viewId, atMs: 0, state: "holds" }));
}

test("two views of one tenant are one voice, and who is no contributor has none", () => {
  expect(countTenants([1, 2], CONTRIBUTORS)).toBe(1);
  expect(countTenants([1, 3], CONTRIBUTORS)).toBe(2);
  expect(countTenants([1, 4], CONTRIBUTORS)).toBe(2);
  expect(countTenants([1, 99], CONTRIBUTORS)).toBe(1);
});

test("tenants of one parent are one voice", () => {
  const below = new Map([
    [1, { ...contributor("acme-web"), voice: "acme" }],
    [2, { ...contributor("acme-apps"), voice: "acme" }],
    [3, contributor("globex")],
  ]);
  expect(countTenants([1, 2], below)).toBe(1);
  expect(countTenants([1, 2, 3], below)).toBe(2);
});

test("a path stays while enough tenants stand to it, or by itself where one offers such paths", () => {
  const stays = (ca: string | undefined, ...viewIds: readonly number[]): boolean =>
    mayStay({ ca, votes: votes(...viewIds) }, CONTRIBUTORS, 2);
  expect(stays(undefined, 1, 3)).toBe(true);
  expect(stays(undefined, 1, 2)).toBe(false);
  expect(stays(undefined, 3)).toBe(false);
  expect(stays("fixed:r:sha256:x", 3)).toBe(true);
  expect(stays("fixed:r:sha256:x", 1)).toBe(false);
  expect(stays("fixed:r:sha256:x")).toBe(false);
});

test("no votes of one tenant alone keep a path by agreement", () => {
  const tenant = fc.constantFrom("acme", "globex", "initech");
  const cast = fc.array(fc.record({ tenant, isWithdrawn: fc.boolean() }), { maxLength: 12 });
  fc.assert(
    fc.property(cast, fc.integer({ min: 2, max: 4 }), (all, needed) => {
      const contributors = new Map(all.map((vote, id) => [id, contributor(vote.tenant)]));
      const given = all.map(({ isWithdrawn }, viewId): CommonsVote => ({
        viewId,
        atMs: 0,
        state: isWithdrawn ? "withdrawn" : "holds",
      }));
      const standing = new Set(all.filter((vote) => !vote.isWithdrawn).map((vote) => vote.tenant));
      const expected = standing.size >= needed;
      expect(mayStay({ ca: undefined, votes: given }, contributors, needed)).toBe(expected);
    }),
  );
});
