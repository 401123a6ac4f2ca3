import fc from "fast-check";
import { expect, test } from "vitest";

import { parseAuthorization } from "./authorization.ts";

const basic = (login: string): string => Buffer.from(login).toString("base64");

test.each(["Bearer abc", "bearer abc", "BEARER  abc", " Bearer abc "])(
  "%j holds a token",
  (header) => {
    expect(parseAuthorization(header)).toEqual({ token: "abc" });
  },
);

test.each([
  ["no login, as from a netrc without one", ":abc", "abc"],
  ["a login", "alice:abc", "abc"],
  ["colons in the password", "alice:a:b:c", "a:b:c"],
])("Basic with %s", (_, login, token) => {
  expect(parseAuthorization(`Basic ${basic(login)}`)).toEqual({ token });
  expect(parseAuthorization(`bASIC ${basic(login)}`)).toEqual({ token });
});

test.each([
  undefined,
  "",
  "Bearer",
  "Bearer ",
  "Bearer a b",
  "Negotiate abc",
  `Basic ${basic("no colon")}`,
  `Basic ${basic("alice:")}`,
])("%j holds none", (header) => {
  expect(parseAuthorization(header)).toBeUndefined();
});

test("any user and any token come through Basic", () => {
  fc.assert(
    fc.property(fc.string(), fc.string({ minLength: 1 }), (user, token) => {
      const login = `${user.replaceAll(":", "")}:${token}`;
      expect(parseAuthorization(`Basic ${basic(login)}`)).toEqual({ token });
    }),
  );
});
