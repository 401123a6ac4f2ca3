import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";

import { createTemporaryDirectory, runCommand } from "@glorious/testkit";

import { assemble, type AssembledRelease } from "../src/assemble.ts";
import { parseReleaseVersion } from "../src/release-version.ts";

const WORKFLOW = `enable-openid-connect: true
steps:
  - uses: https://forge.example.org/glorious/setup-small@v1
`;
const README = `# setup-small

\`\`\`yaml
- uses: glorious/setup-small@v1
\`\`\`

[More](../../docs/more.md)
`;

/** What a release is made of, as small as it can be. */
export const SMALL_FILES: Readonly<Record<string, string>> = {
  LICENSE: "Take it.\n",
  "package.json": `{"repository":{"url":"git+https://github.com/glorious/flywheel.git"}}\n`,
  "docs/more.md": "# More\n",
  "actions/setup-small/action.yml": "name: small\n",
  "actions/setup-small/action-types.yml": "inputs: {}\n",
  "actions/setup-small/README.md": README,
  "actions/setup-small/package.json": "{}\n",
  "actions/setup-small/src/main.ts": "export {};\n",
  "actions/setup-small/dist/main.mjs": "console.log('hi');\n",
  "actions/setup-small/dist/NOTICES.txt": "None.\n",
  "examples/small/.forgejo/workflows/ci.yml": WORKFLOW,
  "gitlab/README.md": "# ci\n\n[More](../docs/more.md), [small](templates/small.yml)\n",
  "gitlab/.gitlab-ci.yml": "stages: [release]\n",
  "gitlab/templates/small.yml": "spec: {}\n---\n",
};

/** A repository of sources, and a place for what is made of them. */
export interface SmallSources extends AsyncDisposable {
  readonly root: string;
  readonly out: string;
  /** Writes files and commits all there is. */
  commit(files: Readonly<Record<string, string>>): Promise<void>;
  assemble(version: string, out?: string): Promise<AssembledRelease>;
  /** Runs git in a repository of a forge, in `out` or another folder, and returns what it printed. */
  git(forge: string, args: readonly string[], out?: string): Promise<string>;
}

/** Creates {@link SMALL_FILES}, committed. */
export async function createSmallSources(): Promise<SmallSources> {
  await using opened = new AsyncDisposableStack();
  const folder = opened.use(await createTemporaryDirectory("flywheel-release-test-"));
  const owned = opened.move();
  const root = path.join(folder.path, "sources");
  const out = path.join(folder.path, "out");
  await mkdir(root);
  const gitIn = async (cwd: string, args: readonly string[]): Promise<string> => {
    const result = await runCommand("git", args, { cwd });
    if (result.status !== 0) throw new Error(`git ${args.join(" ")}: ${result.stderr}`);
    return result.stdout.trimEnd();
  };
  await gitIn(root, ["init", "--quiet", "--initial-branch=main"]);
  await gitIn(root, ["config", "user.name", "test"]);
  await gitIn(root, ["config", "user.email", "test@example.org"]);
  const sources: SmallSources = {
    root,
    out,
    async commit(files) {
      for (const [name, text] of Object.entries(files)) {
        await mkdir(path.dirname(path.join(root, name)), { recursive: true });
        await writeFile(path.join(root, name), text);
      }
      await gitIn(root, ["add", "--all"]);
      await gitIn(root, ["commit", "--quiet", "--allow-empty", "--message", "all"]);
    },
    assemble: (version, into = out) =>
      assemble({
        root,
        version: parseReleaseVersion(version),
        out: into,
        forgejoUrl: "https://forge.acme.example",
        builder: "https://example.org/builder",
        pack: (target) => writeFile(path.join(target, "small.tgz"), "packed"),
      }),
    git(forge, args, from = out) {
      const name = forge === "gitlab" ? "flywheel.git" : "setup-small.git";
      return gitIn(path.join(from, "repositories", forge, "glorious", name), args);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
  await sources.commit(SMALL_FILES);
  return sources;
}
