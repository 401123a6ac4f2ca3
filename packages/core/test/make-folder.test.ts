import { mkdtemp, readdir, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { makeFolder } from "../src/index.ts";

let directory = "";
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "make-folder-"));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

test("a folder is made with the parents it lacks, and the first one made is named", async () => {
  const target = join(directory, "a", "b", "c");
  expect(await makeFolder(target, { mode: 0o700 })).toBe(join(directory, "a"));
  expect((await stat(join(directory, "a"))).mode & 0o777).toBe(0o700);
  expect((await stat(target)).isDirectory()).toBe(true);
  expect(await makeFolder(target)).toBeUndefined();
  expect(await makeFolder("/")).toBeUndefined();
});

test("a file at the place of the folder, and one on the way to it, are named as files", async () => {
  const file = join(directory, "file");
  await writeFile(file, "");
  for (const target of [file, join(file, "a"), join(file, "a", "b")]) {
    await expect(makeFolder(target)).rejects.toMatchObject({
      code: "CONFIG",
      message:
        target === file
          ? `${file} is a file, not a folder`
          : `${target} cannot be made: ${file} is a file`,
      hint: expect.stringContaining("another folder"),
    });
  }
});

test("a link to nowhere is refused, and nothing is made", async () => {
  const link = join(directory, "link");
  await symlink(join(directory, "nowhere"), link);
  await expect(makeFolder(join(link, "a"))).rejects.toMatchObject({
    code: "CONFIG",
    message: expect.stringContaining(link),
  });
  expect(await readdir(directory)).toEqual(["link"]);
});

test.runIf(process.platform === "linux")(
  "a place that takes no folders is refused, where Node's own recursive mkdir never ends",
  async () => {
    const target = "/proc/flywheel/cache";
    await expect(makeFolder(target)).rejects.toMatchObject({
      code: "CONFIG",
      message: `${target} cannot be made: nothing can be made in /proc`,
    });
  },
);

test("a name that is too long is refused", async () => {
  const target = join(directory, "x".repeat(300), "a");
  await expect(makeFolder(target)).rejects.toMatchObject({
    code: "CONFIG",
    message: expect.stringContaining("too long"),
  });
});
