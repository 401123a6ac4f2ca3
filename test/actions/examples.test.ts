import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { expect, test } from "vitest";

const read = (file: string): Promise<string> =>
  readFile(fileURLToPath(new URL(`../../${file}`, import.meta.url)), "utf8");

test.each([
  ["docs/how-to/use-on-github.md", ".github"],
  ["docs/how-to/use-on-forgejo.md", ".forgejo"],
])("%s shows the examples' workflows as they are", async (page, forge) => {
  const text = await read(page);
  for (const example of ["nix", "bazel", "both"]) {
    const workflow = await read(`examples/${example}/${forge}/workflows/ci.yml`);
    expect(text).toContain(`\`\`\`yaml\n${workflow}\`\`\`\n`);
  }
});
