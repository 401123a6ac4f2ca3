import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  rename,
  rm,
  stat,
  truncate,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { fileURLToPath } from "node:url";

import { describe, expect, test } from "vitest";

import { openFilesystemStore } from "../src/index.ts";
import { cut, describeBlobStore, holds, readAll } from "./contract.ts";

interface TemporaryDirectory extends AsyncDisposable {
  readonly path: string;
}

async function makeDirectory(): Promise<TemporaryDirectory> {
  const path = await mkdtemp(join(tmpdir(), "blob-store-"));
  return {
    path,
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  };
}

for (const fsync of ["full", "none"] as const) {
  describeBlobStore(`the filesystem store (fsync ${fsync})`, async () => {
    const directory = await makeDirectory();
    const store = await openFilesystemStore({ directory: directory.path, fsync });
    return {
      store,
      async [Symbol.asyncDispose]() {
        await store[Symbol.asyncDispose]();
        await directory[Symbol.asyncDispose]();
      },
    };
  });
}

const BYTES = Buffer.alloc(3 * 2 ** 20, "some bytes ");
const NAME = "a3c3e9f4b5e1b6befe7f277ec5082cdad70c0b58e94005e5b7f71fcd58fabbae";

/** All files below a directory, as relative paths. */
async function listFiles(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1))
    .sort();
}

describe("a volume that is away", () => {
  test("nothing of it is absent, nothing is written in its place, and all is there when it is back", async () => {
    await using directory = await makeDirectory();
    const [root, away] = [join(directory.path, "store"), join(directory.path, "away")];
    await using store = await openFilesystemStore({ directory: root });
    await store.put(cut(BYTES), { key: "nar/abc" });
    // As an unmounted volume leaves its mount point.
    await rename(root, away);
    await mkdir(root);

    const gone = { code: "UNAVAILABLE", message: expect.stringContaining("is gone") };
    await expect(store.get("nar/abc")).rejects.toMatchObject(gone);
    await expect(store.stat("nar/abc")).rejects.toMatchObject(gone);
    await expect(store.delete("nar/abc")).rejects.toMatchObject(gone);
    await expect(Array.fromAsync(store.list("nar/"))).rejects.toMatchObject(gone);
    await expect(store.put(cut(BYTES), { key: "nar/abc" })).rejects.toMatchObject(gone);
    await expect(store.ping()).rejects.toMatchObject(gone);
    expect(await readdir(root)).toEqual([]);

    await rm(root, { recursive: true });
    await rename(away, root);
    expect(await holds(await store.get("nar/abc"), BYTES)).toBe(true);
    await store.ping();
  });

  test("a store that must be there is not made where there is none, unless its folder says so", async () => {
    await using directory = await makeDirectory();
    const root = join(directory.path, "store");
    const open = () => openFilesystemStore({ directory: root, mustExist: true });
    await expect(open()).rejects.toMatchObject({
      code: "CONFIG",
      message: expect.stringContaining(root),
      hint: expect.stringContaining(join(root, "blobs")),
    });
    await mkdir(join(root, "blobs"), { recursive: true });
    await using store = await open();
    await store.ping();
  });
});

describe("layout", () => {
  test("blobs fan out by their first three characters; files and directories are private", async () => {
    await using directory = await makeDirectory();
    const root = join(directory.path, "new", "store");
    await using store = await openFilesystemStore({ directory: root });
    await store.put(cut(BYTES), { key: `nar/${NAME}` });
    await store.put(cut(BYTES), { key: "nar/x" });

    expect(await listFiles(join(root, "blobs"))).toEqual([`nar/a3/c/${NAME}`, "nar/x_/_/x"]);
    expect(store.locate?.(`nar/${NAME}`)).toBe(`blobs/nar/a3/c/${NAME}`);
    expect(store.locate?.("nar/x")).toBe("blobs/nar/x_/_/x");
    expect(() => store.locate?.("nar/../x")).toThrow("nar/../x");
    expect((await stat(root)).mode & 0o777).toBe(0o700);
    expect((await stat(join(root, "blobs", "nar", "a3"))).mode & 0o777).toBe(0o700);
    expect((await stat(join(root, "blobs", "nar", "a3", "c", NAME))).mode & 0o777).toBe(0o600);
  });

  test("blobs outlive the store that wrote them, and no unfinished file does", async () => {
    await using directory = await makeDirectory();
    {
      await using store = await openFilesystemStore({ directory: directory.path });
      await store.put(cut(BYTES), { key: "nar/a" });
    }
    expect(await listFiles(directory.path)).toEqual(["blobs/nar/a_/_/a"]);
    await using store = await openFilesystemStore({ directory: directory.path });
    expect(await holds(await store.get("nar/a"), BYTES)).toBe(true);
  });

  test("a failed put leaves no file behind", async () => {
    await using directory = await makeDirectory();
    await using store = await openFilesystemStore({ directory: directory.path });
    const expected = { sha256: "0".repeat(64) };
    await expect(store.put(cut(BYTES), { key: "nar/a", expected })).rejects.toThrow("sha256");
    await store.put(cut(BYTES), { key: () => undefined });
    expect((await listFiles(directory.path)).filter((file) => !file.endsWith(".lock"))).toEqual([]);
  });

  test("files that are no blobs are not listed", async () => {
    await using directory = await makeDirectory();
    await using store = await openFilesystemStore({ directory: directory.path });
    await store.put(cut(BYTES), { key: "nar/abc" });
    await writeFile(join(directory.path, "blobs", "nar", "ab", "c", ".stray"), "");
    await writeFile(join(directory.path, "blobs", "nar", "ab", "c", "Stray"), "");
    expect((await Array.fromAsync(store.list(""))).map(({ key }) => key)).toEqual(["nar/abc"]);
  });
});

describe("damage", () => {
  test("a put heals a blob that was truncated", async () => {
    await using directory = await makeDirectory();
    await using store = await openFilesystemStore({ directory: directory.path });
    await store.put(cut(BYTES), { key: "nar/abc" });
    await truncate(join(directory.path, "blobs/nar/ab/c/abc"), 5);
    await store.put(cut(BYTES), { key: "nar/abc" });
    expect(await holds(await store.get("nar/abc"), BYTES)).toBe(true);
  });

  test("a put makes directories again that were removed meanwhile", async () => {
    await using directory = await makeDirectory();
    await using store = await openFilesystemStore({ directory: directory.path });
    await store.put(cut(BYTES), { key: "nar/abc" });
    await rm(join(directory.path, "blobs", "nar"), { recursive: true });
    await store.put(cut(BYTES), { key: "nar/abc" });
    expect(await holds(await store.get("nar/abc"), BYTES)).toBe(true);
  });

  test("a blob that shrinks while it is read is CORRUPT, for both ways to read", async () => {
    await using directory = await makeDirectory();
    await using store = await openFilesystemStore({ directory: directory.path });
    for (const read of ["stream", "sendTo"] as const) {
      await store.put(cut(BYTES), { key: "nar/abc" });
      await using blob = await store.get("nar/abc");
      await truncate(join(directory.path, "blobs/nar/ab/c/abc"), 2 ** 20);
      const target = new PassThrough().resume();
      const reading = read === "stream" ? readAll(blob) : blob?.sendTo(target);
      await expect(reading).rejects.toMatchObject({
        code: "CORRUPT",
        message: "The blob nar/abc ends at byte 1048576, it had 3145728 bytes when it was opened",
      });
    }
  });
});

describe("writers", () => {
  const script = fileURLToPath(new URL("stuck-writer.ts", import.meta.url));

  /** Another process in the middle of a put. */
  async function startStuckWriter(directory: string): Promise<ChildProcess> {
    const child = spawn(process.execPath, ["--conditions=source", script, directory], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await new Promise((resolve) => child.stdout.once("data", resolve));
    return child;
  }

  async function kill(child: ChildProcess): Promise<void> {
    const closed = new Promise((resolve) => child.once("close", resolve));
    child.kill("SIGKILL");
    await closed;
  }

  async function unfinishedFiles(directory: string): Promise<number> {
    return (await listFiles(join(directory, "tmp"))).filter((file) => file.includes("/")).length;
  }

  test("the unfinished files of a killed writer go when the next store opens", async () => {
    await using directory = await makeDirectory();
    await kill(await startStuckWriter(directory.path));
    expect(await unfinishedFiles(directory.path)).toBe(1);

    await using store = await openFilesystemStore({ directory: directory.path });

    expect(await unfinishedFiles(directory.path)).toBe(0);
    expect(await Array.fromAsync(store.list(""))).toEqual([]);
  });

  test("the unfinished files of a writer whose lock a power cut took go as well", async () => {
    await using directory = await makeDirectory();
    await kill(await startStuckWriter(directory.path));
    for (const name of await readdir(join(directory.path, "tmp"))) {
      if (name.endsWith(".lock")) await rm(join(directory.path, "tmp", name));
    }

    await using store = await openFilesystemStore({ directory: directory.path });

    expect(await unfinishedFiles(directory.path)).toBe(0);
    expect(await readdir(join(directory.path, "tmp"))).toHaveLength(2);
    await store.ping();
  });

  test("a living writer's files stay until it dies, whoever cleans up", async () => {
    await using directory = await makeDirectory();
    const child = await startStuckWriter(directory.path);
    await using store = await openFilesystemStore({ directory: directory.path });
    await using other = await openFilesystemStore({ directory: directory.path });
    expect(await store.cleanUp({ olderThanMs: 0 })).toEqual({ removedFiles: 0, removedBytes: 0 });
    expect(await unfinishedFiles(directory.path)).toBe(1);

    await kill(child);

    expect(await other.cleanUp()).toEqual({ removedFiles: 1, removedBytes: BYTES.length });
    expect(await unfinishedFiles(directory.path)).toBe(0);
    await store.put(cut(BYTES), { key: "nar/a" });
    expect(await holds(await other.get("nar/a"), BYTES)).toBe(true);
  });
});

describe("system errors", () => {
  function succeeds(command: string, ...args: string[]): boolean {
    return spawnSync(command, args).status === 0;
  }

  test("a full disk is STORAGE_FULL, leaves nothing behind, and heals when room is made", async ({
    skip,
  }) => {
    await using directory = await makeDirectory();
    const canMount = succeeds("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", directory.path);
    skip(!canMount, "mounting a small tmpfs needs root");
    try {
      await using store = await openFilesystemStore({ directory: directory.path });
      const large = Buffer.alloc(6 * 2 ** 20);
      await expect(store.put(cut(large), { key: "nar/a" })).rejects.toMatchObject({
        code: "STORAGE_FULL",
        hint: expect.stringContaining("Free space"),
      });
      expect(await unfinished(directory.path)).toEqual([]);
      await store.put(cut(BYTES), { key: "nar/b" });
      await expect(store.put(cut(BYTES), { key: "nar/c" })).rejects.toMatchObject({
        code: "STORAGE_FULL",
      });
      await store.delete("nar/b");
      await store.put(cut(BYTES), { key: "nar/c" });
      expect(await holds(await store.get("nar/c"), BYTES)).toBe(true);
    } finally {
      succeeds("umount", directory.path);
    }
  });

  async function unfinished(directory: string): Promise<string[]> {
    return (await listFiles(join(directory, "tmp"))).filter((file) => file.includes("/"));
  }

  test("a directory that is a file is CONFIG, and says where", async () => {
    await using directory = await makeDirectory();
    const path = join(directory.path, "file");
    await writeFile(path, "");
    await expect(openFilesystemStore({ directory: join(path, "store") })).rejects.toMatchObject({
      code: "CONFIG",
      message: expect.stringContaining(join(path, "store")),
    });
  });

  test("a directory without permission is UNAVAILABLE", async () => {
    await using directory = await makeDirectory();
    const closed = join(directory.path, "closed");
    await mkdir(closed);
    await chmod(directory.path, 0o755);
    await chmod(closed, 0o500);
    // Root may write anywhere, so this process stops being root once it has read its code.
    const open = `
      import { openFilesystemStore } from ${JSON.stringify(new URL("../src/index.ts", import.meta.url).href)};
      if (process.getuid() === 0) process.seteuid(65534);
      const error = await openFilesystemStore({ directory: process.argv[1] }).catch((error) => error);
      console.log(JSON.stringify({ code: error.code, hint: error.hint }));
    `;
    const { stdout } = spawnSync(
      process.execPath,
      ["--conditions=source", "--input-type=module", "--eval", open, closed],
      { encoding: "utf8" },
    );
    expect(JSON.parse(stdout)).toEqual({
      code: "UNAVAILABLE",
      hint: expect.stringContaining("user"),
    });
  });
});
