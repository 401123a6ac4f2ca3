import { constants } from "node:os";

import { CacheError } from "@glorious/core";
import { expect, test } from "vitest";

import { fromReadError, fromSystemError } from "./system-errors.ts";

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: something, write '/secret/path'`), { code });
}

test.each([
  ["ENOSPC", "STORAGE_FULL"],
  ["EDQUOT", "STORAGE_FULL"],
  ["EFBIG", "TOO_LARGE"],
  ["EMFILE", "UNAVAILABLE"],
  ["ENFILE", "UNAVAILABLE"],
  ["EIO", "UNAVAILABLE"],
  ["EROFS", "UNAVAILABLE"],
  ["EACCES", "UNAVAILABLE"],
  ["EXDEV", "CONFIG"],
])("%s is %s, with a hint and its cause", (code, expected) => {
  const cause = systemError(code);
  expect(fromSystemError(cause, "write nar/a")).toMatchObject({
    code: expected,
    message: `Cannot write nar/a: ${code}`,
    hint: expect.any(String),
    cause,
  });
});

test.each([
  ["EDQUOT", "STORAGE_FULL"],
  ["ESTALE", "UNAVAILABLE"],
] as const)("%s, which Node cannot name, is %s all the same", (name, expected) => {
  const number = constants.errno[name];
  const code = `Unknown system error -${number}`;
  const cause = Object.assign(new Error(`${code}: ${code}, write`), { code, errno: -number });
  expect(fromSystemError(cause, "write nar/a")).toMatchObject({
    code: expected,
    message: `Cannot write nar/a: ${name}`,
  });
});

test("an error that has no place here is INTERNAL", () => {
  expect(fromSystemError(systemError("EWHAT"), "read nar/a").code).toBe("INTERNAL");
});

test("an error that has a code already keeps it", () => {
  const error = new CacheError("RANGE", "outside");
  expect(fromSystemError(error, "read nar/a")).toBe(error);
});

test("bytes that the disk cannot read are damage of the blob, other trouble with reading is not", () => {
  expect(fromReadError(systemError("EIO"), "nar/a")).toMatchObject({ code: "CORRUPT" });
  expect(fromReadError(systemError("ESTALE"), "nar/a")).toMatchObject({ code: "UNAVAILABLE" });
});
