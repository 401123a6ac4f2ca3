import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { appendFile, chmod, mkdir, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";

import { expect, test } from "vitest";

import { dumpStorePath } from "../src/index.ts";
import { createTemporaryDirectory } from "./paths.ts";

const hasNix = spawnSync("nix-store", ["--version"]).status === 0;

async function hashOf(
  path: string,
  options: Parameters<typeof dumpStorePath>[1] = {},
): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of dumpStorePath(path, options)) hash.update(chunk);
  return hash.digest("hex");
}

function hashByNix(path: string, flags: readonly string[] = []): string {
  const { stdout, stderr, status } = spawnSync("nix-store", [...flags, "--dump", path], {
    maxBuffer: 2 ** 30,
  });
  if (status !== 0) throw new Error(stderr.toString());
  return createHash("sha256").update(stdout).digest("hex");
}

function bytes(directory: string, ...name: number[]): Buffer {
  return Buffer.concat([Buffer.from(`${directory}/`), Buffer.from(name)]);
}

async function createNastyTree(root: string): Promise<void> {
  await mkdir(root);
  await mkdir(join(root, "empty"));
  await mkdir(join(root, "deep/er/and/deeper"), { recursive: true });
  await writeFile(join(root, "deep/er/and/deeper/file"), "at the end");
  // Byte order differs from the order of UTF-16 code units for these two, and 0xff is no UTF-8 at all.
  await writeFile(join(root, "\u{10000}"), "beyond the plane");
  await writeFile(join(root, "\uFF61"), "inside the plane");
  await writeFile(bytes(root, 0xff, 0xfe), "no text");
  await mkdir(bytes(root, 0x61, 0x80));
  await writeFile(bytes(root, 0x61, 0x80, 0x2f, 0xc3), "below a name that is no text");
  // "a" < "a-b" < "a.c" < "a/…": a directory's place is that of its name alone.
  await mkdir(join(root, "a"));
  await writeFile(join(root, "a/x"), "");
  await writeFile(join(root, "a-b"), "minus");
  await writeFile(join(root, "a.c"), "dot");
  await writeFile(join(root, "run me"), "#!/bin/sh\n");
  await chmod(join(root, "run me"), 0o755);
  await writeFile(join(root, "group-executable"), "not by its owner");
  await chmod(join(root, "group-executable"), 0o474);
  await symlink("does/not/exist", join(root, "dangling"));
  await symlink(Buffer.from([0x2f, 0xff]), join(root, "to-bytes"));
  for (const sizeBytes of [0, 1, 7, 8, 9, 65_535, 65_536, 131_072, 131_073, 3_000_001]) {
    await writeFile(join(root, `size-${sizeBytes}`), Buffer.alloc(sizeBytes, sizeBytes % 251));
  }
  await mkdir(join(root, "many"));
  for (let index = 0; index < 2000; index += 1) {
    await writeFile(join(root, `many/${index}`), `file ${index}`);
  }
}

test.skipIf(!hasNix)("a nasty tree serializes as nix-store --dump does", async () => {
  await using directory = await createTemporaryDirectory();
  const root = join(directory.path, "tree");
  await createNastyTree(root);
  expect(await hashOf(root)).toBe(hashByNix(root));
});

test.skipIf(!hasNix)(
  "a single file and a single link serialize as nix-store --dump does",
  async () => {
    await using directory = await createTemporaryDirectory();
    const file = join(directory.path, "file");
    const link = join(directory.path, "link");
    await writeFile(file, "contents");
    await symlink("file", link);
    expect(await hashOf(file)).toBe(hashByNix(file));
    expect(await hashOf(link)).toBe(hashByNix(link));
  },
);

test.skipIf(!hasNix)("case-hack suffixes are undone as Nix does, when asked to", async () => {
  await using directory = await createTemporaryDirectory();
  const root = join(directory.path, "tree");
  await mkdir(join(root, "B~nix~case~hack~2"), { recursive: true });
  await writeFile(join(root, "B~nix~case~hack~2/x"), "second");
  await writeFile(join(root, "b"), "first");
  await writeFile(join(root, "Az~nix~case~hack~1"), "third");
  expect(await hashOf(root, { caseHack: true })).toBe(
    hashByNix(root, ["--option", "use-case-hack", "true"]),
  );
  expect(await hashOf(root, { caseHack: false })).toBe(
    hashByNix(root, ["--option", "use-case-hack", "false"]),
  );
});

test("two names that are one without their suffixes are refused", async () => {
  await using directory = await createTemporaryDirectory();
  await writeFile(join(directory.path, "same"), "");
  await writeFile(join(directory.path, "same~nix~case~hack~1"), "");
  await expect(hashOf(directory.path, { caseHack: true })).rejects.toMatchObject({
    code: "CORRUPT",
    message: expect.stringContaining("two entries named same"),
  });
});

test("a socket is refused by name", async () => {
  await using directory = await createTemporaryDirectory();
  const path = join(directory.path, "socket");
  const listening = Promise.withResolvers<void>();
  const server = createServer().listen(path, listening.resolve);
  await listening.promise;
  try {
    await expect(hashOf(directory.path)).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining(path),
    });
  } finally {
    server.close();
  }
});

test("a named pipe is refused instead of waited for", async () => {
  await using directory = await createTemporaryDirectory();
  expect(spawnSync("mkfifo", [join(directory.path, "pipe")]).status).toBe(0);
  await expect(hashOf(directory.path)).rejects.toMatchObject({ code: "UNSUPPORTED" });
});

test("a file that grows while it is read is CORRUPT", async () => {
  await using directory = await createTemporaryDirectory();
  const path = join(directory.path, "growing");
  await writeFile(path, Buffer.alloc(5_000_000));
  const read = async (): Promise<void> => {
    let chunks = 0;
    for await (const _ of dumpStorePath(path)) {
      chunks += 1;
      if (chunks === 1) await appendFile(path, "more");
    }
  };
  await expect(read()).rejects.toMatchObject({
    code: "CORRUPT",
    message: `${path} changed while it was read`,
  });
});

test("a path that is not there is NOT_FOUND by name", async () => {
  await expect(hashOf("/nonexistent/path")).rejects.toMatchObject({
    code: "NOT_FOUND",
    message: "/nonexistent/path does not exist",
  });
});

test("a signal stops the reading with CANCELLED", async () => {
  await using directory = await createTemporaryDirectory();
  for (let index = 0; index < 100; index += 1) {
    await writeFile(join(directory.path, String(index)), Buffer.alloc(70_000));
  }
  const controller = new AbortController();
  const read = async (): Promise<void> => {
    for await (const _ of dumpStorePath(directory.path, { signal: controller.signal })) {
      controller.abort();
    }
  };
  await expect(read()).rejects.toMatchObject({ code: "CANCELLED" });
});
