import { cp, readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";

import { runCommand } from "@glorious/testkit";
import { expect, test } from "vitest";

import { requireCleanTree } from "../src/require-releasable.ts";
import { createSmallSources, SMALL_FILES } from "./small-sources.ts";

test("a tree has the action at its root, the licence, and nothing that no job needs", async () => {
  await using sources = await createSmallSources();
  await sources.assemble("1.2.3");
  const files = await sources.git("github", ["ls-tree", "-r", "--name-only", "v1.2.3"]);
  expect(files.split("\n")).toEqual([
    "LICENSE",
    "README.md",
    "action-types.yml",
    "action.yml",
    "dist/NOTICES.txt",
    "dist/main.mjs",
  ]);
});

test("the README leads into the sources, says its exact tag, and shows the forge it is on", async () => {
  await using sources = await createSmallSources();
  await sources.assemble("1.2.3");
  const readme = await sources.git("github", ["show", "v1:README.md"]);
  expect(readme).toContain("](https://github.com/glorious/flywheel/blob/v1.2.3/docs/more.md)");
  expect(readme).toContain("- uses: glorious/setup-small@v1\n");
  expect(readme).toContain("- uses: glorious/setup-small@v1.2.3\n");
  const mirror = await sources.git("forgejo", ["show", "v1:README.md"]);
  expect(mirror).toContain("- uses: https://forge.acme.example/glorious/setup-small@v1\n");
  expect(mirror).toContain("- uses: https://forge.acme.example/glorious/setup-small@v1.2.3\n");
  expect(mirror).toContain("enable-openid-connect: true");
  expect(mirror).not.toContain("uses: glorious/");
});

test("the README names the major that it is a release of, whatever the sources' README says", async () => {
  await using sources = await createSmallSources();
  await sources.assemble("0.1.0");
  for (const forge of ["github", "forgejo"]) {
    const readme = await sources.git(forge, ["show", "v0:README.md"]);
    expect(readme).toContain("glorious/setup-small@v0\n");
    expect(readme).not.toContain("@v1");
  }
});

test("the GitLab catalog has versions without a v, no floating tag, and its own files linked", async () => {
  await using sources = await createSmallSources();
  await sources.assemble("1.2.3");
  expect(await sources.git("gitlab", ["tag"])).toBe("1.2.3");
  const files = await sources.git("gitlab", ["ls-tree", "-r", "--name-only", "1.2.3"]);
  expect(files.split("\n")).toEqual([
    ".gitlab-ci.yml",
    "LICENSE",
    "README.md",
    "templates/small.yml",
  ]);
  expect(await sources.git("gitlab", ["show", "1.2.3:README.md"])).toContain(
    "[More](https://github.com/glorious/flywheel/blob/v1.2.3/docs/more.md), [small](templates/small.yml)",
  );
});

test("an exact tag never moves: a second release of a version is refused, and nothing changes", async () => {
  await using sources = await createSmallSources();
  await sources.assemble("1.2.3");
  const before = await sources.git("github", ["show-ref"]);
  const checksums = path.join(sources.out, "assets", "1.2.3", "SHA256SUMS");
  const summed = await readFile(checksums, "utf8");
  await sources.commit({ "actions/setup-small/dist/main.mjs": "console.log('other');\n" });

  await expect(sources.assemble("1.2.3")).rejects.toMatchObject({
    code: "CONFLICT",
    message: expect.stringMatching(/setup-small \(github\) has v1\.2\.3 already \([0-9a-f]{40}\)/),
    hint: "An exact tag never moves: release the next version",
  });
  expect(await sources.git("github", ["show-ref"])).toBe(before);
  expect(await readFile(checksums, "utf8")).toBe(summed);
});

test("one repository that has the tag keeps the others from getting it", async () => {
  await using sources = await createSmallSources();
  await sources.assemble("1.2.3");
  await sources.git("github", ["update-ref", "-d", "refs/tags/v1.2.3"]);
  await expect(sources.assemble("1.2.3")).rejects.toMatchObject({ code: "CONFLICT" });
  expect(await sources.git("github", ["tag"])).toBe("v1");
});

test("the floating tag follows the newest of its major and no preview; the branch has every release", async () => {
  await using sources = await createSmallSources();
  const floating = (tag: string): Promise<string> =>
    sources.git("github", ["describe", "--tags", "--exact-match", "--exclude", tag, tag]);
  await sources.assemble("1.2.3");
  expect(await floating("v1")).toBe("v1.2.3");
  await sources.commit({ "actions/setup-small/dist/main.mjs": "console.log('2');\n" });
  await sources.assemble("1.3.0-rc.1");
  expect(await floating("v1")).toBe("v1.2.3");
  await sources.assemble("1.3.0");
  expect(await floating("v1")).toBe("v1.3.0");
  await sources.assemble("1.2.4");
  expect(await floating("v1")).toBe("v1.3.0");
  await sources.assemble("2.0.0");
  expect([await floating("v1"), await floating("v2")]).toEqual(["v1.3.0", "v2.0.0"]);
  const log = await sources.git("github", ["log", "--format=%s", "main"]);
  expect(log.split("\n")).toEqual(
    ["2.0.0", "1.2.4", "1.3.0", "1.3.0-rc.1", "1.2.3"].map((version) => `Release ${version}`),
  );
});

test("whoever assembles the same commit on the same repositories gets the same bytes", async () => {
  await using sources = await createSmallSources();
  await sources.assemble("1.2.3");
  const other = `${sources.out}-other`;
  await cp(sources.out, other, { recursive: true });
  await sources.commit({ "actions/setup-small/dist/main.mjs": "console.log('2');\n" });
  await sources.assemble("1.2.4");
  // What lies about in the work tree is not what is released.
  await writeFile(path.join(sources.root, "actions/setup-small/dist/main.mjs"), "stray");
  await sources.assemble("1.2.4", other);

  for (const forge of ["github", "forgejo", "gitlab"]) {
    const references = await sources.git(forge, ["show-ref"]);
    expect(await sources.git(forge, ["show-ref"], other)).toBe(references);
  }
  const assets = await readAssets(sources.out, "1.2.4");
  expect(await readAssets(other, "1.2.4")).toEqual(assets);
  expect([...assets.keys()]).toEqual([
    "SHA256SUMS",
    "gitlab-flywheel-1.2.4.tar.gz",
    "provenance.intoto.json",
    "setup-small-1.2.4.tar.gz",
    "small.tgz",
  ]);
});

test("the checksums hold, and the provenance names the commit, the trees and every file", async () => {
  await using sources = await createSmallSources();
  const { assets, trees } = await sources.assemble("1.2.3");
  const check = await runCommand("sha256sum", ["--check", "--strict", "SHA256SUMS"], {
    cwd: assets,
  });
  expect([check.status, check.stdout.match(/: OK$/gm)?.length]).toEqual([0, 3]);

  const statement = JSON.parse(
    await readFile(path.join(assets, "provenance.intoto.json"), "utf8"),
  ) as Record<string, unknown>;
  const { stdout: head } = await runCommand("git", ["rev-parse", "HEAD"], { cwd: sources.root });
  expect(statement).toMatchObject({
    _type: "https://in-toto.io/Statement/v1",
    predicateType: "https://slsa.dev/provenance/v1",
    predicate: {
      buildDefinition: {
        externalParameters: { version: "1.2.3" },
        resolvedDependencies: [{ digest: { gitCommit: head.trim() } }],
      },
      runDetails: { builder: { id: "https://example.org/builder" } },
    },
  });
  const [github] = trees;
  expect(statement["subject"]).toContainEqual({
    name: "github/glorious/setup-small.git@refs/tags/v1.2.3",
    digest: { gitCommit: github?.commit, gitTree: github?.tree },
  });
  expect(statement["subject"]).toHaveLength(3 + trees.length);
});

test("what is not committed is refused by its name", async () => {
  await using sources = await createSmallSources();
  await requireCleanTree(sources.root);
  await writeFile(path.join(sources.root, "actions/setup-small/dist/main.mjs"), "dirty");
  await writeFile(path.join(sources.root, "new.txt"), "new");
  await expect(requireCleanTree(sources.root)).rejects.toMatchObject({
    message: "Not as it was committed: actions/setup-small/dist/main.mjs, new.txt",
    hint: "A release is made of a commit: commit or remove them",
  });
});

test.each([
  [
    "actions/setup-small/README.md",
    "[x](../../docs/gone.md)",
    /docs\/gone\.md, which is not there/,
  ],
  ["package.json", "{}\n", /package\.json has no repository\.url/],
])(
  "a commit that cannot be released is refused before anything is written: %s",
  async (name, text, message) => {
    await using sources = await createSmallSources();
    await sources.commit({ [name]: text });
    await expect(sources.assemble("1.2.3")).rejects.toThrow(message);
    await sources.commit({ [name]: SMALL_FILES[name] ?? "" });
    await sources.assemble("1.2.3");
  },
);

async function readAssets(out: string, version: string): Promise<ReadonlyMap<string, string>> {
  const folder = path.join(out, "assets", version);
  const names = (await readdir(folder)).sort();
  const texts = await Promise.all(names.map((name) => readFile(path.join(folder, name), "base64")));
  return new Map(names.map((name, index) => [name, texts[index] ?? ""]));
}
