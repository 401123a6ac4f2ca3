/** Assembles a release of the commit that the checkout is at; see `docs/how-to/release.md`. */
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { CacheError, describeError } from "@glorious/core";

import { assemble } from "./assemble.ts";
import { packPackages } from "./pack-packages.ts";
import { parseReleaseVersion } from "./release-version.ts";
import {
  requireCleanTree,
  requireCurrentBundles,
  requirePublicPackages,
} from "./require-releasable.ts";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));

async function main(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      out: { type: "string" },
      version: { type: "string" },
      "forgejo-url": { type: "string", default: "https://forge.example.org" },
      builder: { type: "string", default: "https://gloriousflywheel.dev/release/by-hand" },
    },
  });
  if (values.out === undefined || values.version === undefined) {
    throw new CacheError("INVALID", "--out DIR and --version 1.2.3 are needed");
  }
  const version = parseReleaseVersion(values.version);
  await requireCleanTree(ROOT);
  const packages = await requirePublicPackages(ROOT, version);
  await requireCurrentBundles(ROOT);
  const { trees, assets } = await assemble({
    root: ROOT,
    version,
    out: path.resolve(values.out),
    forgejoUrl: values["forgejo-url"].replace(/\/+$/, ""),
    builder: values.builder,
    pack: (folder) => packPackages(ROOT, packages, folder),
  });
  for (const { title, tag, commit, floating } of trees) {
    const moved = floating === undefined ? "" : `, ${floating} moved`;
    process.stdout.write(`${title} ${tag} ${commit}${moved}\n`);
  }
  process.stdout.write(`${assets}\n`);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`release: ${describeError(error)}\n`);
  process.exitCode = 1;
}
