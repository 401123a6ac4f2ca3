import { expect, test } from "vitest";

import { chooseProxy, showProxy } from "./proxy.ts";

const HTTP = new URL("http://cache.example.org/main");
const HTTPS = new URL("https://cache.example.org/main");

test.each([
  [HTTP, { http_proxy: "http://p:3128" }, "http://p:3128"],
  [HTTP, { http_proxy: "p:3128" }, "http://p:3128"],
  [HTTP, { HTTP_PROXY: "http://p:3128" }, undefined],
  [HTTP, { https_proxy: "http://p:3128" }, undefined],
  [HTTPS, { HTTPS_PROXY: "http://p:3128" }, "http://p:3128"],
  [HTTPS, { all_proxy: "http://p:3128" }, "http://p:3128"],
  [HTTPS, { https_proxy: "http://p:1", no_proxy: "other, example.org" }, undefined],
  [HTTPS, { https_proxy: "http://p:1", no_proxy: ".example.org" }, undefined],
  [HTTPS, { https_proxy: "http://p:1", no_proxy: "*" }, undefined],
  [HTTPS, { https_proxy: "http://p:1", no_proxy: "ample.org" }, "http://p:1"],
  [HTTPS, { https_proxy: "" }, undefined],
] as const)("of %s with %j curl takes %s", (target, env, expected) => {
  const choice = chooseProxy(target, env);
  expect(choice === undefined ? undefined : showProxy(choice)).toBe(expected);
});

test("a proxy's credentials are not shown", () => {
  const choice = chooseProxy(HTTP, { http_proxy: "http://ada:sesame@p:3128" });
  expect(choice === undefined ? "" : showProxy(choice)).toBe("http://p:3128");
});
