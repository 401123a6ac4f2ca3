import fc from "fast-check";
import { expect, test } from "vitest";

import { createRouter, type Route } from "./router.ts";

const route = (method: Route["method"], pattern: string): Route => ({
  method,
  pattern,
  family: "attic",
  handler: () => Promise.resolve(),
});

const find = createRouter([
  route("GET", "/"),
  route("GET", "/healthz"),
  route("GET", "/_api/v1/config/:view"),
  route("PATCH", "/_api/v1/config/:view"),
  route("GET", "/:view/info"),
  route("PUT", "/:view/info"),
  route("GET", "/:view/:hash.narinfo"),
  route("GET", "/:view/:hash.ls"),
  route("GET", "/:view/nar/:file"),
  route("GET", "/:view/kv/:key*"),
  route("MKCOL", "/:view/kv/:key*"),
  route("GET", "/:view/:instance*/ac/:hash"),
]);

function found(method: string, path: string): unknown {
  const match = find(method, path);
  return match.kind === "found" ? [match.route.pattern, match.params] : match.kind;
}

test.each([
  ["GET", "/", "/", {}],
  ["HEAD", "/healthz", "/healthz", {}],
  ["PATCH", "/_api/v1/config/a+b", "/_api/v1/config/:view", { view: "a+b" }],
  ["GET", "/main/info", "/:view/info", { view: "main" }],
  ["GET", "/main/abc.narinfo", "/:view/:hash.narinfo", { view: "main", hash: "abc" }],
  ["GET", "/main/a.b.narinfo", "/:view/:hash.narinfo", { view: "main", hash: "a.b" }],
  ["GET", "/a%2Bb/abc.ls", "/:view/:hash.ls", { view: "a+b", hash: "abc" }],
  ["GET", "/main/nar/x.nar.zst", "/:view/nar/:file", { view: "main", file: "x.nar.zst" }],
  ["GET", "/a%2f..%2fb/info", "/:view/info", { view: "a/../b" }],
  ["GET", "/main/ac/12", "/:view/:instance*/ac/:hash", { view: "main", instance: "", hash: "12" }],
  [
    "HEAD",
    "/main/pr/7%2F/ac/12",
    "/:view/:instance*/ac/:hash",
    { view: "main", instance: "pr/7/", hash: "12" },
  ],
  [
    "GET",
    "/main/ac/ac/12",
    "/:view/:instance*/ac/:hash",
    { view: "main", instance: "ac", hash: "12" },
  ],
  ["GET", "/main/kv/ac/12", "/:view/kv/:key*", { view: "main", key: "ac/12" }],
  ["GET", "/main/kv/", "/:view/kv/:key*", { view: "main", key: "" }],
  ["MKCOL", "/main/kv", "/:view/kv/:key*", { view: "main", key: "" }],
  ["GET", "/main/kv/a//b/", "/:view/kv/:key*", { view: "main", key: "a//b/" }],
])("%s %s is %s", (method, path, pattern, params) => {
  expect(found(method, path)).toEqual([pattern, params]);
});

test.each([
  ["GET", "//"],
  ["GET", "//info"],
  ["GET", "/main/.narinfo"],
  ["GET", "/main/info/"],
  ["GET", "/main/nar"],
  ["GET", "/main/nar/"],
  ["GET", "/main/nar/../info"],
  ["GET", "/HEALTHZ"],
  ["GET", "/_api/v1/config"],
])("%s %j leads nowhere", (method, path) => {
  expect(found(method, path)).toBe("not-found");
});

test.each([
  ["POST", "/main/info", "GET, HEAD, PUT"],
  ["DELETE", "/_api/v1/config/main", "GET, HEAD, PATCH"],
  ["get", "/healthz", "GET, HEAD"],
])("%s %s names what is allowed there", (method, path, allow) => {
  expect(find(method, path)).toEqual({ kind: "wrong-method", family: "attic", allow });
});

test("the first of several routes that fit wins", () => {
  const routes = [route("GET", "/literal/:a"), route("GET", "/:b/:a"), route("GET", "/:c/x")];
  const match = createRouter(routes)("GET", "/literal/x");
  expect(match).toMatchObject({ route: { pattern: "/literal/:a" } });
});

test("a segment that is no percent-encoded UTF-8 is refused by name", () => {
  for (const segment of ["%", "%zz", "%ff"]) {
    expect(() => find("GET", `/${segment}/info`)).toThrow(
      expect.objectContaining({ code: "INVALID", message: expect.stringContaining(segment) }),
    );
  }
});

test("any name comes back as it was, and no name reaches another route", () => {
  const name = fc.string({ unit: "binary", minLength: 1 });
  fc.assert(
    fc.property(name, (text) => {
      expect(found("GET", `/${encodeURIComponent(text)}/info`)).toEqual([
        "/:view/info",
        { view: text },
      ]);
    }),
  );
});
