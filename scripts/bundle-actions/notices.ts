import { readdir, readFile } from "node:fs/promises";
import path from "node:path";

import type { RolldownOutput } from "rolldown";

/** Names, versions and licences of the packages whose code is in a bundle, by name. */
export async function formatNotices(output: RolldownOutput["output"]): Promise<string> {
  const folders = new Set<string>();
  for (const chunk of output) {
    if (chunk.type !== "chunk") continue;
    for (const [id, { renderedLength }] of Object.entries(chunk.modules)) {
      const folder = renderedLength > 0 ? packageFolder(id) : undefined;
      if (folder !== undefined) folders.add(folder);
    }
  }
  const notices = await Promise.all([...folders].map(formatNotice));
  return `The bundle beside this file holds code of the packages below.\n\n${[...new Set(notices)]
    .sort()
    .join("\n")}`;
}

/** The folder of the package that a module belongs to; `undefined` for ours. */
function packageFolder(id: string): string | undefined {
  return /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(id)?.[0];
}

async function formatNotice(folder: string): Promise<string> {
  const manifest = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8")) as {
    readonly name: string;
    readonly version: string;
    readonly license?: string;
  };
  const files = (await readdir(folder)).filter((name) =>
    /^(licen[cs]e|copying|notice)/i.test(name),
  );
  const texts = await Promise.all(
    files.sort().map(async (name) => (await readFile(path.join(folder, name), "utf8")).trim()),
  );
  const title = `${manifest.name} ${manifest.version} (${manifest.license ?? "see below"})`;
  const text = texts.length === 0 ? "Its package holds no licence text." : texts.join("\n\n");
  return `${title}\n${"-".repeat(title.length)}\n${text}\n\n`;
}
