import { formatRcImport, parseRcImport, quoteRcWord } from "@glorious/cache-client";
import fc from "fast-check";
import { expect, test } from "vitest";

import { splitRcFile } from "./rc-file.ts";

const words = fc
  .string({ unit: "grapheme", minLength: 1 })
  .filter((word) => !/[\r\n\0]/.test(word));

test("a word in an rc file is read back as it was, whatever it holds", () => {
  fc.assert(
    fc.property(words, (word) => {
      const [line] = splitRcFile(`build ${quoteRcWord(word)}\n`);
      expect(line?.words).toEqual(["build", word]);
    }),
  );
});

test("the file that a line brings in is read back as it was, in the bytes of its name", () => {
  fc.assert(
    fc.property(words, (word) => {
      const path = `/${word}/bazelrc`;
      const line = formatRcImport(path);
      expect(parseRcImport(line)).toBe(path);
      const bytes = Buffer.from(line, "latin1").toString("utf8");
      expect(splitRcFile(bytes)[0]?.words).toEqual(["try-import", path]);
    }),
  );
});
