import { CacheError } from "@glorious/core";
import { expect, test } from "vitest";

import { fromSystemError } from "./system-errors.ts";

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

test("an error that has no place here is INTERNAL", () => {
  expect(fromSystemError(systemError("EWHAT"), "read nar/a").code).toBe("INTERNAL");
});

test("an error that has a code already keeps it", () => {
  const error = new CacheError("RANGE", "outside");
  expect(fromSystemError(error, "read nar/a")).toBe(error);
});
