import { expect, test } from "vitest";

import { rewriteLinks } from "./rewrite-links.ts";

const rewrite = (markdown: string): string =>
  rewriteLinks(markdown, {
    page: "actions/setup-attic/README.md",
    source: "https://github.com/glorious/flywheel",
    ref: "v1.2.3",
    kindOf: (path) =>
      ({ "docs/a.md": "file", "examples/nix": "folder" } as const)[path] ?? undefined,
    comesAlong: (path) => path.startsWith("actions/setup-attic/dist"),
  });

test.each([
  ["[a](../../docs/a.md)", "[a](https://github.com/glorious/flywheel/blob/v1.2.3/docs/a.md)"],
  ["[a](../../docs/a.md#b)", "[a](https://github.com/glorious/flywheel/blob/v1.2.3/docs/a.md#b)"],
  [
    "[e](../../examples/nix/)",
    "[e](https://github.com/glorious/flywheel/tree/v1.2.3/examples/nix)",
  ],
  ["[d](dist/main.mjs)", "[d](dist/main.mjs)"],
  ["[h](https://example.org/x) [i](#inputs)", "[h](https://example.org/x) [i](#inputs)"],
])("%s becomes %s", (markdown, expected) => {
  expect(rewrite(markdown)).toBe(expected);
});

test("a link to what the sources do not have is refused by its name", () => {
  expect(() => rewrite("[a](../../docs/gone.md)")).toThrow(
    "actions/setup-attic/README.md links to ../../docs/gone.md, which is not there",
  );
});
