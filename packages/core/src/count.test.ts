import { expect, it } from "vitest";

import { formatCount } from "./count.ts";

it("one thing is named in the singular, and any other number in the plural", () => {
  expect(formatCount(1, "path")).toBe("1 path");
  expect(formatCount(0, "path")).toBe("0 paths");
  expect(formatCount(2, "object is", "objects are")).toBe("2 objects are");
});
