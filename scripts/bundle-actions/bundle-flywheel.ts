import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";

import { type Plugin, rolldown } from "rolldown";

import { formatNotices } from "./notices.ts";

/** What the bundle begins with: nothing of it may be missing in any Node that runners have. */
const PREFACE = `// Whatever an older Node lacks is below, and got from it as values: a static import of it would end in a stack trace.
{
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major < 22 || (major === 22 && minor < 19)) {
    process.stderr.write(\`flywheel: this needs Node 22.19 or newer, and here is \${process.versions.node}\\n\`);
    process.exit(1);
  }
}
`;

/**
 * Bundles the `flywheel` command into one file that any Node from 22.19 on runs: all of it but the server, which
 * `up` would start. Not minified, because people review it.
 */
export async function bundleFlywheel(options: {
  readonly root: string;
  readonly target: string;
}): Promise<void> {
  const cli = path.join(options.root, "packages", "cli");
  const { version } = JSON.parse(await readFile(path.join(cli, "package.json"), "utf8")) as {
    version: string;
  };
  await using bundle = await rolldown({
    cwd: options.root,
    input: path.join(cli, "src", "bundled", "main.ts"),
    platform: "node",
    plugins: [
      replaceModules(path.join(cli, "src"), ["commands/up.ts", "version.ts"]),
      { name: "late-imports", renderChunk: (code) => PREFACE + makeImportsLate(code) },
    ],
    resolve: { conditionNames: ["source", "import", "node", "default"] },
    transform: { define: { FLYWHEEL_VERSION: JSON.stringify(version) }, target: "node22.19" },
  });
  const { output } = await bundle.write({
    file: path.join(options.target, "flywheel.mjs"),
    format: "esm",
    codeSplitting: false,
  });
  await writeFile(path.join(options.target, "flywheel.NOTICES.txt"), await formatNotices(output));
}

/** Takes `bundled/<name>` in the place of each module. */
function replaceModules(source: string, modules: readonly string[]): Plugin {
  const replacements = new Map(
    modules.map((module) => [
      path.join(source, module),
      path.join(source, "bundled", path.basename(module)),
    ]),
  );
  return {
    name: "replace-modules",
    resolveId(specifier, importer) {
      if (!specifier.startsWith(".") || importer === undefined) return undefined;
      return replacements.get(path.resolve(path.dirname(importer), specifier));
    },
  };
}

const STATIC_IMPORT = /^import (?:(\w+)(?:, )?)?(?:\{ ([^}]*) \})? from ("node:[\w/]+");$/gm;

/**
 * Turns the imports of Node's own modules into values that are asked for when the file runs.
 *
 * @throws {Error} when another import is left.
 */
function makeImportsLate(code: string): string {
  const late = code.replaceAll(
    STATIC_IMPORT,
    (_, whole: string | undefined, names: string | undefined, module: string) => {
      const value = `process.getBuiltinModule(${module})`;
      return [
        ...(whole === undefined ? [] : [`const ${whole} = ${value};`]),
        ...(names === undefined ? [] : [`const { ${names.replaceAll(" as ", ": ")} } = ${value};`]),
      ].join("\n");
    },
  );
  const left = /^import .*$/m.exec(late);
  if (left !== null) throw new Error(`The bundle of flywheel has a static import: ${left[0]}`);
  return late;
}
