import { mkdir, readFile, readlink, stat, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { PassThrough } from "node:stream";

import { applyChanges } from "@glorious/cache-client";
import { createTemporaryDirectory } from "@glorious/testkit";
import { expect, test } from "vitest";

import type { CliContext } from "../src/cli-context.ts";
import { chooseNetrc, nixConfPath, readNixConfTexts } from "../src/nix-config/nix-files.ts";

function contextOf(env: Readonly<Record<string, string>>): CliContext {
  return {
    stdin: new PassThrough(),
    stdout: new PassThrough(),
    stderr: new PassThrough(),
    self: ["flywheel"],
    env,
    workingDirectory: "/",
    signal: new AbortController().signal,
    userId: 1000,
    nowMs: () => 0,
  };
}

/** A machine whose configuration lies below one folder. */
async function machine(files: Readonly<Record<string, string>>) {
  const folder = await createTemporaryDirectory("flywheel-nix-files-");
  for (const [name, text] of Object.entries(files)) {
    const file = path.join(folder.path, name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, text.replaceAll("$ROOT", folder.path), { mode: 0o640 });
  }
  const env = { HOME: path.join(folder.path, "home"), NIX_CONF_DIR: path.join(folder.path, "etc") };
  return { root: folder.path, env, [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose]() };
}

const CONF = "home/.config/nix/nix.conf";

test("changes are made all or none", async () => {
  await using nix = await machine({ "etc/netrc": "old", "file-not-folder": "" });
  const [netrc, fresh] = [path.join(nix.root, "etc/netrc"), path.join(nix.root, "new/nix.conf")];
  const impossible = path.join(nix.root, "file-not-folder/nix.conf");
  await expect(
    applyChanges([
      { path: netrc, text: "new", isSecret: true },
      { path: fresh, text: "new", isSecret: false },
      { path: impossible, text: "new", isSecret: false },
    ]),
  ).rejects.toThrow(/file-not-folder/);
  expect(await readFile(netrc, "utf8")).toBe("old");
  await expect(stat(fresh)).rejects.toMatchObject({ code: "ENOENT" });
});

test("a new secret file is the owner's alone, an old file keeps its rights and its link", async () => {
  await using nix = await machine({ "dotfiles/nix.conf": "a = b\n" });
  const link = path.join(nix.root, "nix.conf");
  await symlink("dotfiles/nix.conf", link);
  const netrc = path.join(nix.root, "netrc");
  await applyChanges([
    { path: netrc, text: "secret", isSecret: true },
    { path: link, text: "\u00e4 = b", isSecret: false },
  ]);
  expect((await stat(netrc)).mode & 0o777).toBe(0o600);
  const target = path.join(nix.root, "dotfiles/nix.conf");
  expect([...(await readFile(target))]).toEqual([0xe4, ...Buffer.from(" = b")]);
  expect((await stat(target)).mode & 0o777).toBe(0o640);
});

test.each([
  ["/nix/store/00000000000000000000000000000000-hm/nix.conf", "UNSUPPORTED"],
  ["absent/nix.conf", "NOT_FOUND"],
])("a link to %s is left alone", async (target, code) => {
  await using nix = await machine({});
  const link = path.join(nix.root, "nix.conf");
  await symlink(target, link);
  await expect(applyChanges([{ path: link, text: "x", isSecret: false }])).rejects.toMatchObject({
    code,
  });
  expect(await readlink(link)).toBe(target);
});

test("settings are found through includes, in the order in which Nix reads them", async () => {
  await using nix = await machine({
    "etc/nix.conf": "netrc-file = $ROOT/system\n!include absent.conf\ninclude nix.conf\n",
    [CONF]: "include more/first.conf\nsandbox = false\n",
    "home/.config/nix/more/first.conf": "include second.conf\n",
    "home/.config/nix/more/second.conf": "netrc-file = $ROOT/home/mine\n",
    "home/mine": "",
  });
  const context = contextOf(nix.env);
  const texts = await readNixConfTexts("user", context);
  expect(await chooseNetrc("user", texts, context)).toMatchObject({
    path: path.join(nix.root, "home/mine"),
    setsNetrcFile: false,
  });
  const systemTexts = await readNixConfTexts("system", context);
  expect(await chooseNetrc("system", systemTexts, context)).toMatchObject({
    path: path.join(nix.root, "system"),
  });
});

test("the default netrc is used when it is there, else one beside the user's nix.conf", async () => {
  await using nix = await machine({ [CONF]: "" });
  const context = contextOf(nix.env);
  expect(await chooseNetrc("user", [], context)).toEqual({
    path: path.join(nix.root, "home/.config/nix/netrc"),
    setsNetrcFile: true,
    warnings: [],
  });
  await mkdir(path.join(nix.root, "etc"));
  await writeFile(path.join(nix.root, "etc/netrc"), "", { mode: 0o644 });
  expect(await chooseNetrc("user", [], context)).toEqual({
    path: path.join(nix.root, "etc/netrc"),
    setsNetrcFile: false,
    warnings: [expect.stringContaining("read by other users")],
  });
});

test("the file written is the one Nix reads last", () => {
  expect(nixConfPath("user", contextOf({ HOME: "/home/a" }))).toBe("/home/a/.config/nix/nix.conf");
  expect(nixConfPath("user", contextOf({ XDG_CONFIG_HOME: "/x" }))).toBe("/x/nix/nix.conf");
  expect(nixConfPath("user", contextOf({ NIX_USER_CONF_FILES: "/last:/first" }))).toBe("/last");
  expect(nixConfPath("system", contextOf({}))).toBe("/etc/nix/nix.conf");
  expect(() => nixConfPath("user", contextOf({ NIX_USER_CONF_FILES: "" }))).toThrow(
    expect.objectContaining({ code: "CONFIG" }),
  );
});

test("a program that is written can be run by whoever reads the setting that names it", async () => {
  await using folder = await createTemporaryDirectory();
  const file = path.join(folder.path, "helper");
  await applyChanges([{ path: file, text: "#!/bin/sh\n", isSecret: false, isProgram: true }]);
  expect((await stat(file)).mode & 0o777).toBe(0o755);
});
