import fc from "fast-check";
import { expect, test } from "vitest";

import { insertBlock, splitAtBlock } from "./managed-block.ts";

const OWNER = "flywheel use";
const PLACES = fc.constantFrom("top" as const, "bottom" as const);
const TEXT = fc.string({ unit: fc.constantFrom("a", " ", "=", "#", "\n", "\r\n", "\u00e4") });
const LINES = fc.array(fc.stringMatching(/^[a-z =]{0,9}$/));

test("taking the block out gives the very bytes back", () => {
  fc.assert(
    fc.property(TEXT, LINES, PLACES, fc.boolean(), (text, lines, place, isFileOurs) => {
      const split = splitAtBlock(
        insertBlock(text, lines, { owner: OWNER, place, isFileOurs }),
        "file",
        OWNER,
      );
      expect(split.before + split.after).toBe(text);
      expect(split.block).toMatchObject({ lines, isFileOurs });
    }),
  );
});

test("what the user writes around the block stays", () => {
  fc.assert(
    fc.property(TEXT, TEXT, TEXT, PLACES, (text, above, below, place) => {
      const file = insertBlock(text, ["a = b"], { owner: OWNER, place, isFileOurs: false });
      const head = above === "" || above.endsWith("\n") ? above : `${above}\n`;
      const split = splitAtBlock(head + file + below, "file", OWNER);
      const feed = below !== "" && split.block?.isLineFeedOurs === true ? "\n" : "";
      expect(split.before + split.after).toBe(
        place === "top" ? head + text + below : head + text + feed + below,
      );
    }),
  );
});

test("a block without an end is refused, not guessed", () => {
  const file = insertBlock("", ["a = b"], { owner: OWNER, place: "bottom", isFileOurs: true });
  const cut = file.slice(0, file.indexOf("# <<<"));
  expect(() => splitAtBlock(cut, "/etc/nix/nix.conf", OWNER)).toThrow(
    expect.objectContaining({
      code: "CORRUPT",
      message: expect.stringContaining("/etc/nix/nix.conf"),
    }),
  );
});
