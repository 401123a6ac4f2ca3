import { execFile } from "node:child_process";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { promisify } from "node:util";

import { expect, test } from "vitest";

const room = path.resolve(import.meta.dirname, "..");

async function readTree(directory: string): Promise<Record<string, string>> {
  const names = await readdir(directory, { recursive: true, withFileTypes: true });
  const files = names.filter((entry) => entry.isFile());
  const texts = files.map(async (entry) => {
    const file = path.join(entry.parentPath, entry.name);
    return [path.relative(directory, file), await readFile(file, "utf8")] as const;
  });
  return Object.fromEntries(await Promise.all(texts));
}

test("the generated code is what the interface files give", async () => {
  const target = await mkdtemp(path.join(tmpdir(), "reapi-generated-"));
  try {
    const bin = path.join(room, "node_modules", ".bin");
    await promisify(execFile)(path.join(bin, "buf"), ["generate", "--output", target], {
      cwd: room,
      env: { ...process.env, PATH: `${bin}${path.delimiter}${process.env["PATH"]}` },
    });

    const fresh = await readTree(path.join(target, "src", "generated"));

    // `pnpm --filter @glorious/reapi run generate` brings it up to date.
    expect(await readTree(path.join(room, "src", "generated"))).toEqual(fresh);
  } finally {
    await rm(target, { recursive: true });
  }
});
