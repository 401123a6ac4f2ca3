import { spawnSync } from "node:child_process";
import { chmod, mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { expect, test } from "vitest";

import { queryClosure } from "../src/index.ts";
import { createTemporaryDirectory } from "./paths.ts";

const hasNix = spawnSync("nix", ["--version"]).status === 0;
const STORE = "/nix/store";

/** A store below `root` with one file that refers to another, made without building anything. */
function createStore(root: string): { text: string; user: string } {
  const expression = `
    let text = builtins.toFile "text" "some text\\n";
    in builtins.toFile "user" "uses \${text}\\n"`;
  const { stdout, stderr } = spawnSync("nix-instantiate", [
    "--store",
    root,
    "--eval",
    "--read-write-mode",
    "--expr",
    expression,
  ]);
  const user = JSON.parse(stdout.toString() || "null") as unknown;
  if (typeof user !== "string") throw new Error(stderr.toString());
  const references = spawnSync("nix-store", ["--store", root, "--query", "--references", user]);
  return { user, text: references.stdout.toString().trim() };
}

test.skipIf(!hasNix)(
  "a closure of a store below another root is told with where its files lie",
  async () => {
    await using directory = await createTemporaryDirectory();
    const { text, user } = createStore(directory.path);

    const infos = await queryClosure([user], { store: directory.path, recursive: true });

    expect(new Set(infos.map(({ storePath }) => storePath.path))).toEqual(new Set([text, user]));
    const info = infos.find(({ storePath }) => storePath.path === user);
    expect(info).toMatchObject({
      narHash: expect.stringMatching(/^[0-9a-f]{64}$/),
      references: [text.slice(STORE.length + 1)],
      ca: expect.stringMatching(/^text:sha256:/),
      signatures: [],
      realPath: `${directory.path}${user}`,
    });
  },
);

test.skipIf(!hasNix)("without recursion the paths alone are told", async () => {
  await using directory = await createTemporaryDirectory();
  const { user } = createStore(directory.path);
  const infos = await queryClosure([user], {
    store: `local?root=${directory.path}`,
    recursive: false,
  });
  expect(infos.map(({ storePath }) => storePath.path)).toEqual([user]);
});

test.skipIf(!hasNix)(
  "links, chains of links and what lies inside a path lead to the path",
  async () => {
    await using directory = await createTemporaryDirectory();
    const root = join(directory.path, "root");
    const { user } = createStore(root);
    await symlink(user, join(directory.path, "result"));
    await symlink("result", join(directory.path, "result-2"));
    await mkdir(join(directory.path, "profile"));
    await symlink("../result-2", join(directory.path, "profile/current"));
    for (const path of [
      join(directory.path, "result"),
      join(directory.path, "profile/current"),
      `${user}/bin/tool`,
      `${root}${user}`,
    ]) {
      const infos = await queryClosure([path], { store: root, recursive: false });
      expect(infos.map(({ storePath }) => storePath.path)).toEqual([user]);
    }
  },
);

test.skipIf(!hasNix)("a derivation is its file, and ….drv^out what it makes", async () => {
  await using directory = await createTemporaryDirectory();
  const root = directory.path;
  const expression = `derivation { name = "made"; system = "x86_64-linux"; builder = "/bin/sh"; outputs = [ "out" "dev" ]; }`;
  const made = spawnSync("nix-instantiate", ["--store", root, "--expr", expression]);
  const drvPath = made.stdout.toString().trim();

  const infos = await queryClosure([drvPath], { store: root, recursive: false });

  expect(infos.map(({ storePath }) => storePath.path)).toEqual([drvPath]);
  for (const outputs of ["^*", "!out", "^out,dev"]) {
    // It was not built: that its output is not valid shows which path was asked for.
    await expect(
      queryClosure([`${drvPath}${outputs}`], { store: root, recursive: false }),
    ).rejects.toMatchObject({ code: "NOT_FOUND", message: expect.stringMatching(/-made\b/) });
  }
});

test.skipIf(!hasNix)(
  "several thousand paths are asked for in several runs and each told once",
  async () => {
    await using directory = await createTemporaryDirectory();
    const expression = `map (n: builtins.toFile "file-\${toString n}" (toString n)) (builtins.genList (n: n) 4000)`;
    const { stdout, stderr } = spawnSync(
      "nix-instantiate",
      [
        "--store",
        directory.path,
        "--eval",
        "--strict",
        "--json",
        "--read-write-mode",
        "--expr",
        expression,
      ],
      { maxBuffer: 2 ** 24 },
    );
    const paths = JSON.parse(stdout.toString() || JSON.stringify(stderr.toString())) as string[];

    const infos = await queryClosure([...paths, ...paths], {
      store: directory.path,
      recursive: true,
    });

    expect(infos.map(({ storePath }) => storePath.path)).toEqual(paths.toSorted());
  },
);

test.skipIf(!hasNix)(
  "a path that is not valid is NOT_FOUND by name, with and without its closure",
  async () => {
    await using directory = await createTemporaryDirectory();
    createStore(directory.path);
    const absent = `${STORE}/${"0".repeat(32)}-absent`;
    for (const recursive of [true, false]) {
      await expect(
        queryClosure([absent], { store: directory.path, recursive }),
      ).rejects.toMatchObject({ code: "NOT_FOUND", message: expect.stringContaining(absent) });
    }
  },
);

test("what is no store path, and what does not exist, is refused before Nix is asked", async () => {
  await using directory = await createTemporaryDirectory();
  const options = { recursive: false, nix: "/nonexistent/nix" };
  await expect(queryClosure([directory.path], options)).rejects.toMatchObject({
    code: "INVALID",
    message: expect.stringContaining(directory.path),
  });
  await expect(queryClosure([join(directory.path, "result")], options)).rejects.toMatchObject({
    code: "NOT_FOUND",
  });
  await symlink("b", join(directory.path, "a"));
  await symlink("a", join(directory.path, "b"));
  await expect(queryClosure([join(directory.path, "a")], options)).rejects.toMatchObject({
    code: "INVALID",
    message: expect.stringContaining("circle"),
  });
});

test("where Nix is missing the error says how to install it", async () => {
  const path = `${STORE}/${"0".repeat(32)}-x`;
  await expect(
    queryClosure([path], { recursive: true, nix: "/nonexistent/nix" }),
  ).rejects.toMatchObject({
    code: "CONFIG",
    hint: expect.stringContaining("apt-get install nix-bin"),
  });
});

test("a Nix that knows --json-format is asked with it, and its refusals are passed on", async () => {
  await using directory = await createTemporaryDirectory();
  const nix = join(directory.path, "nix");
  // Prints what it was asked; real new versions of Nix cannot be installed beside the machine's own.
  await writeFile(nix, '#!/bin/sh\necho "warning: something" >&2\necho "error: $*" >&2\nexit 1\n');
  await chmod(nix, 0o755);
  const path = `${STORE}/${"0".repeat(32)}-x`;
  await expect(queryClosure([path], { recursive: true, nix })).rejects.toMatchObject({
    code: "CONFIG",
    message: expect.stringContaining(
      `path-info --extra-experimental-features nix-command --offline --json --json-format 1 --recursive ${path}`,
    ),
  });
});

test("a signal stops Nix with CANCELLED", async () => {
  await using directory = await createTemporaryDirectory();
  const nix = join(directory.path, "nix");
  await writeFile(nix, "#!/bin/sh\nexec sleep 60\n");
  await chmod(nix, 0o755);
  const controller = new AbortController();
  const query = queryClosure([`${STORE}/${"0".repeat(32)}-x`], {
    recursive: true,
    nix,
    signal: controller.signal,
  });
  controller.abort();
  await expect(query).rejects.toMatchObject({ code: "CANCELLED" });
});
