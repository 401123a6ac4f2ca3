import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { expect, test } from "vitest";

const read = (file: string): Promise<string> =>
  readFile(fileURLToPath(new URL(`../../${file}`, import.meta.url)), "utf8");

test.each([
  ["docs/how-to/use-on-github.md", ".github/workflows/ci.yml"],
  ["docs/how-to/use-on-forgejo.md", ".forgejo/workflows/ci.yml"],
  ["docs/how-to/use-on-gitlab.md", ".gitlab-ci.yml"],
])("%s shows the examples' workflows as they are", async (page, file) => {
  const text = await read(page);
  for (const example of ["nix", "bazel", "both"]) {
    const workflow = await read(`examples/${example}/${file}`);
    expect(text).toContain(`\`\`\`yaml\n${workflow}\`\`\`\n`);
  }
});
