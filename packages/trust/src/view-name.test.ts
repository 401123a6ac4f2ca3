import fc from "fast-check";
import { expect, test } from "vitest";

import { isAtticCacheName } from "./cache-pattern.ts";
import { formatViewName, parseViewName } from "./view-name.ts";

function word(maxLength: number): fc.Arbitrary<string> {
  return fc.stringMatching(new RegExp(`^[a-z0-9][a-z0-9-]{0,${maxLength - 1}}$`));
}

test("a name without a plus belongs to the default tenant", () => {
  expect(parseViewName("main")).toEqual({ tenant: undefined, view: "main" });
  expect(parseViewName("acme-corp+ci-2")).toEqual({ tenant: "acme-corp", view: "ci-2" });
});

test.each([
  "",
  "+",
  "+main",
  "acme+",
  "a+b+c",
  "Main",
  "-a",
  "a_b",
  "a.b",
  "a/b",
  "ä",
  "main\n",
  "a".repeat(13),
  `${"a".repeat(25)}+main`,
  "metrics",
  "acme+cas",
  "compressed-blobs",
  "main_",
  "main_pr-0",
  "main_pr-012",
  "main_pr-1234567890",
  "main_pr-1_pr-2",
  "main_ref-0123456",
  "main_ref-0123456G",
  "main_ref-0123456A",
  "acme_pr-1+main",
  "main_pr-1/",
  "main+x_",
  "_pr-1",
])("%j is refused", (text) => {
  expect(() => parseViewName(text)).toThrow(expect.objectContaining({ code: "INVALID" }));
});

test("an overlay's name is its base's and the pull request or the ref", () => {
  expect(parseViewName("acme+main_pr-12")).toEqual({
    tenant: "acme",
    view: "main",
    overlay: { kind: "pr", number: 12 },
  });
  expect(parseViewName("main_ref-0123abcd").overlay).toEqual({ kind: "ref", hash: "0123abcd" });
});

test("the longest overlay name is an Attic cache name", () => {
  const base = { tenant: "t".repeat(24), view: "v".repeat(12) };
  for (const overlay of [
    { kind: "ref", hash: "0123abcd" },
    { kind: "pr", number: 999_999_999 },
  ] as const) {
    const fullName = formatViewName({ ...base, overlay });
    expect(isAtticCacheName(fullName)).toBe(true);
    expect(parseViewName(fullName)).toEqual({ ...base, overlay });
  }
});

test("every view name is an Attic cache name, and format after parse is identity", () => {
  fc.assert(
    fc.property(fc.option(word(24), { nil: undefined }), word(12), (tenant, view) => {
      const fullName = formatViewName({ tenant, view });
      expect(isAtticCacheName(fullName)).toBe(true);
      fc.pre(!["ac", "cas", "kv", "healthz", "readyz", "metrics", "blobs"].includes(view));
      fc.pre(!["uploads", "actions", "operations", "capabilities"].includes(view));
      expect(parseViewName(fullName)).toEqual({ tenant, view });
    }),
  );
});

test("an overlay's name says what it lies over and for which pull request or ref", () => {
  expect(parseViewName("acme+main_pr-12")).toEqual({
    tenant: "acme",
    view: "main",
    overlay: { kind: "pr", number: 12 },
  });
  expect(parseViewName("main_ref-0a1b2c3d")).toEqual({
    tenant: undefined,
    view: "main",
    overlay: { kind: "ref", hash: "0a1b2c3d" },
  });
  expect(formatViewName(parseViewName("main_ref-0a1b2c3d"))).toBe("main_ref-0a1b2c3d");
  for (const name of ["main_pr-0", "main_pr-01", "main_ref-0A1B2C3D", "main_pr-1_pr-2", "main_x"]) {
    expect(() => parseViewName(name)).toThrow("overlay part");
  }
});
