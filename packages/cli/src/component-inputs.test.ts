import fc from "fast-check";
import { expect, test } from "vitest";

import { readComponentInputs } from "./component-inputs.ts";

const NIX = { kinds: ["nix"], env: {}, workspace: "/work" } as const;
const BAZEL = { ...NIX, kinds: ["bazel"] } as const;

test("the inputs of a component become the request of a set-up", () => {
  const source = [
    "server-url=https://cache.example.org",
    "cache=acme+main",
    "extra-caches=tools commons",
    "  acme+old",
    "push=false",
    "push-mode=store-diff",
    "configure-substituter=false",
    "priority=40",
    "drain-timeout=60",
    "timeout=5",
    String.raw`push-filter=-doc$|'"\.drv$`,
    "  -test$",
    "",
  ].join("\n");

  expect(readComponentInputs(source, NIX)).toMatchObject({
    kinds: ["nix"],
    serverUrl: "https://cache.example.org",
    view: "acme+main",
    extraViews: ["tools", "commons", "acme+old"],
    push: "false",
    pushMode: "store-diff",
    pushFilter: [String.raw`-doc$|'"\.drv$`, "-test$"],
    configureSubstituter: false,
    priority: 40,
    drainTimeoutSeconds: 60,
    timeoutSeconds: 5,
    workspace: "/work",
  });
});

test("what is left empty is as if it were not there", () => {
  const all = ["server-url", "cache", "push", "timeout", "priority", "audience", "token"];

  const request = readComponentInputs(all.map((name) => `${name}=\n`).join(""), NIX);

  expect(request).toEqual(readComponentInputs("", NIX));
  expect(request).toMatchObject({ push: "auto", timeoutSeconds: 30, pushFilter: [] });
});

test("inputs of Bazel count for Bazel only", () => {
  const source = "bazelrc=file\nconfig-name=ci\ncompression=false\ndownload=all\n";

  expect(readComponentInputs(source, BAZEL)).toMatchObject({
    bazel: { rc: "file", configName: "ci", compression: false, download: "all" },
    pushMode: "none",
  });
  expect(readComponentInputs(source, NIX)).not.toHaveProperty("bazel");
});

test("addresses, views and tokens may be a variable of the pipeline", () => {
  const env = { CACHE: "https://cache.example.org", TEAM: "acme" };
  const source = "server-url=$CACHE/\ncache=${TEAM}+main\naudience=$CACHE\ntoken=$NOWHERE\n";

  const request = readComponentInputs(source, { ...NIX, env });

  expect(request).toMatchObject({
    serverUrl: "https://cache.example.org/",
    view: "acme+main",
    audience: "https://cache.example.org",
  });
  expect(request.token).toBeUndefined();
});

test.each([
  ["server-url=cache.example.org", /input server-url: "cache.example.org" is no server address/],
  ["push=sometimes", /input push: "sometimes" is none of auto, true, false/],
  ["timeout=soon", /input timeout: "soon" is no whole number/],
  ["timeout=0", /input timeout: "0" is no whole number from 1/],
  ["drain-timeout=1.5", /input drain-timeout: "1.5"/],
  ["push-filter=ok\n(", /input push-filter: "\(" is no regular expression/],
])("%j is refused by the input's name", (source, message) => {
  expect(() => readComponentInputs(source, NIX)).toThrow(message);
});

test("a configuration of Bazel's has a name without spaces", () => {
  expect(() => readComponentInputs("config-name=a b", BAZEL)).toThrow(/input config-name: "a b"/);
});

test("a token is never quoted", () => {
  expect(() => readComponentInputs("token=top secret\ntimeout=soon", NIX)).toThrow(
    expect.not.objectContaining({ message: expect.stringContaining("secret") }),
  );
});

test("any text gives a request or a refusal that a person can read", () => {
  const line = fc.oneof(
    fc.string(),
    fc.constantFrom("push=", "timeout=", "push-filter=", "server-url=", "cache=$A", "token="),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 8 }), (lines) => {
      try {
        readComponentInputs(lines.join("\n"), NIX);
      } catch (error) {
        expect(error).toMatchObject({ name: "UsageError" });
      }
    }),
  );
});
