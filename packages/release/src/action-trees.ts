import { posix } from "node:path";

import { CacheError } from "@glorious/core";

import type { TreeFile } from "./git.ts";
import type { ReleaseVersion } from "./release-version.ts";
import { rewriteLinks } from "./rewrite-links.ts";
import { rewriteVersions } from "./rewrite-versions.ts";
import type { SourceTree } from "./source-tree.ts";

/** What belongs to an action beside its `dist`; everything else stays in the sources. */
const PUBLISHED = new Set(["action.yml", "action-types.yml", "README.md"]);
/** What the examples call the forge that has the actions. */
const EXAMPLE_FORGE = "https://forge.example.org";

/** The forge that a tree is for, which decides what its README shows first. */
export type Forge =
  | { readonly kind: "github" }
  | { readonly kind: "forgejo"; readonly url: string };

/** Names of the published actions. */
export function listActions(source: SourceTree): readonly string[] {
  return [...source.files.keys()]
    .map((path) => /^actions\/([^/]+)\/action\.yml$/.exec(path)?.[1])
    .filter((name) => name !== undefined);
}

/** The tree of an action's own repository: `action.yml` at its root, and nothing that a job does not need. */
export function createActionTree(
  source: SourceTree,
  name: string,
  options: { readonly version: ReleaseVersion; readonly forge: Forge },
): readonly TreeFile[] {
  const folder = `actions/${name}/`;
  const files: TreeFile[] = [];
  for (const file of source.files.values()) {
    const path = file.path.startsWith(folder) ? file.path.slice(folder.length) : "";
    if (!PUBLISHED.has(path) && !path.startsWith("dist/")) continue;
    const readme = path === "README.md" ? createReadme(source, name, options) : undefined;
    files.push({
      ...file,
      path,
      ...(readme === undefined ? {} : { contents: Buffer.from(readme) }),
    });
  }
  for (const wanted of [...PUBLISHED, "dist/main.mjs", "dist/NOTICES.txt"]) {
    if (!files.some(({ path }) => path === wanted)) {
      throw new CacheError("NOT_FOUND", `actions/${name} has no ${wanted} in the commit`);
    }
  }
  return [...files, source.require("LICENSE")];
}

function createReadme(
  source: SourceTree,
  name: string,
  { version, forge }: { readonly version: ReleaseVersion; readonly forge: Forge },
): string {
  const page = `actions/${name}/README.md`;
  const own = source.require(page).contents.toString();
  const linked = rewriteLinks(own, {
    page,
    source: source.url,
    ref: `v${version.text}`,
    kindOf: (path) => source.kindOf(path),
    comesAlong: (path) =>
      source.kindOf(path) === "file" && posix.dirname(path).startsWith(`actions/${name}`),
  });
  const shown = forge.kind === "github" ? linked : showForgejo(linked, source, name, forge.url);
  const current = rewriteVersions(shown, version);
  return `${current.trimEnd()}\n\n${describeVersions(source, name, version, forge)}`;
}

/** The README with the example's workflow of Forgejo in the place of GitHub's. */
function showForgejo(readme: string, source: SourceTree, name: string, url: string): string {
  const workflow = [...source.files.values()].find(
    ({ path, contents }) =>
      /^examples\/[^/]+\/\.forgejo\/workflows\/ci\.yml$/.test(path) &&
      contents.includes(`/glorious/${name}@`),
  );
  if (workflow === undefined) {
    throw new CacheError("NOT_FOUND", `No example of Forgejo uses ${name}`);
  }
  const text = workflow.contents.toString().replaceAll(EXAMPLE_FORGE, url);
  return readme.replace(/```yaml\n[^]*?```/, () => `\`\`\`yaml\n${text}\`\`\``);
}

function describeVersions(
  source: SourceTree,
  name: string,
  version: ReleaseVersion,
  forge: Forge,
): string {
  const prefix = forge.kind === "github" ? "" : `${forge.url}/`;
  return `## Versions

This is ${version.text}. \`v${version.text}\` never moves; \`v${version.major}\` is the newest of its major.

\`\`\`yaml
- uses: ${prefix}glorious/${name}@v${version.text}
\`\`\`

Made from [${source.commit.slice(0, 12)}](${source.url}/commit/${source.commit}) of the repository that has its sources, tests and issues.
`;
}
