import { execFileSync } from "node:child_process";

import fc from "fast-check";
import { expect, test } from "vitest";

import { quoteShell } from "./quote-shell.ts";

test("a quoted word is one word of the shell, whatever is in it", () => {
  const word = fc.string({ unit: "grapheme-ascii", minLength: 1 });
  fc.assert(
    fc.property(word, (text) => {
      const output = execFileSync("sh", ["-c", `printf %s ${quoteShell(text)}`], {
        encoding: "utf8",
      });
      expect(output).toBe(text);
    }),
    { numRuns: 30 },
  );
});
