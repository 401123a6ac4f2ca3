/**
 * Builds the `dist` folders of all actions, the tables of their READMEs, and GitLab's components, which pin the client
 * by its hash: `pnpm build:actions`. With `--check` nothing is written, and what is not current is named.
 */
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { renderComponents } from "../gitlab-components/render-component.ts";
import { renderComponentReadme } from "../gitlab-components/render-readme.ts";
import { bundleActionEntries } from "./bundle-entries.ts";
import { bundleFlywheel } from "./bundle-flywheel.ts";
import { renderReadme } from "./readme-tables.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const ACTIONS = path.join(ROOT, "actions");
/** The client that the server hands out. */
const CLIENT = path.join("setup-attic", "dist", "flywheel.mjs");

process.exitCode = process.argv.includes("--check") ? await check() : await build();

async function build(): Promise<number> {
  for (const name of await listActions()) {
    await writeFile(readmeOf(name), await renderReadme(path.join(ACTIONS, name)));
    const dist = path.join(ACTIONS, name, "dist");
    const fresh = `${dist}.new`;
    await rm(fresh, { recursive: true, force: true });
    await bundleAction(name, fresh);
    await rm(dist, { recursive: true, force: true });
    await rename(fresh, dist);
    for (const [file, bytes] of await readFolder(dist)) {
      console.log(`${path.join("actions", name, "dist", file)}  ${bytes.length} bytes`);
    }
  }
  for (const [file, text] of await makeComponents(path.join(ACTIONS, CLIENT))) {
    await mkdir(path.dirname(path.join(ROOT, file)), { recursive: true });
    await writeFile(path.join(ROOT, file), text);
  }
  return 0;
}

async function check(): Promise<number> {
  const temporary = await mkdtemp(path.join(tmpdir(), "flywheel-bundles-"));
  const stale: string[] = [];
  try {
    for (const name of await listActions()) {
      const fresh = path.join(temporary, name);
      await bundleAction(name, fresh);
      const dist = path.join(ACTIONS, name, "dist");
      const [wanted, found] = [await readFolder(fresh), await readFolder(dist)];
      const differs = [...new Set([...wanted.keys(), ...found.keys()])].filter(
        (file) => !wanted.get(file)?.equals(found.get(file) ?? Buffer.of()),
      );
      stale.push(...differs.map((file) => path.join("actions", name, "dist", file)));
      const readme = await readFile(readmeOf(name), "utf8");
      if (readme !== (await renderReadme(path.join(ACTIONS, name)))) {
        stale.push(path.join("actions", name, "README.md"));
      }
    }
    const client = path.join(temporary, path.dirname(path.dirname(CLIENT)), path.basename(CLIENT));
    for (const [file, text] of await makeComponents(client)) {
      const found = await readFile(path.join(ROOT, file), "utf8").catch(() => undefined);
      if (found !== text) stale.push(file);
    }
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  for (const file of stale) console.error(`${file} is not what its sources make`);
  if (stale.length > 0) console.error("Run `pnpm build:actions` and commit what it makes.");
  return stale.length === 0 ? 0 : 1;
}

async function bundleAction(name: string, target: string): Promise<void> {
  await mkdir(target, { recursive: true });
  await bundleActionEntries({ root: ROOT, action: path.join(ACTIONS, name), target });
  await bundleFlywheel({ root: ROOT, target });
}

/** What is made from the actions' inputs and the client: texts by their paths in the checkout. */
async function makeComponents(client: string): Promise<ReadonlyMap<string, string>> {
  const sha256 = createHash("sha256")
    .update(await readFile(client))
    .digest("hex");
  const components = await renderComponents(ROOT, sha256);
  const readme = path.join("gitlab", "README.md");
  return new Map([
    ...components.map(
      ({ name, text }) => [path.join("gitlab", "templates", `${name}.yml`), text] as const,
    ),
    [readme, renderComponentReadme(await readFile(path.join(ROOT, readme), "utf8"), components)],
  ]);
}

function readmeOf(name: string): string {
  return path.join(ACTIONS, name, "README.md");
}

/** Folders below `actions` that hold an `action.yml`. */
async function listActions(): Promise<string[]> {
  const names = await readdir(ACTIONS);
  const found: string[] = [];
  for (const name of names.sort()) {
    const files = await readdir(path.join(ACTIONS, name));
    if (files.includes("action.yml")) found.push(name);
  }
  return found;
}

async function readFolder(folder: string): Promise<ReadonlyMap<string, Buffer>> {
  const names: string[] = await readdir(folder).catch(() => []);
  const files = await Promise.all(
    names.sort().map(async (name) => [name, await readFile(path.join(folder, name))] as const),
  );
  return new Map(files);
}
