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
      lateBuiltins(),
      lessOfUndici(),
    ],
    resolve: { conditionNames: ["source", "import", "node", "default"] },
    transform: { define: { FLYWHEEL_VERSION: JSON.stringify(version) }, target: "node22.19" },
  });
  const { output } = await bundle.generate({ format: "esm", codeSplitting: false });
  await writeFile(path.join(options.target, "flywheel.mjs"), finishText(output[0].code));
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

const BUILTIN = "\0builtin:";

/**
 * Turns Node's own modules into modules of the bundle that are asked for when somebody first needs them: what loads TLS
 * alone takes as long as half a start of Node, and most commands do without.
 */
function lateBuiltins(): Plugin {
  return {
    name: "late-builtins",
    resolveId(specifier, _, { kind }) {
      if (!specifier.startsWith("node:") || kind !== "import-statement") return undefined;
      return { id: `${BUILTIN}${specifier}`, moduleSideEffects: false };
    },
    load(id) {
      if (!id.startsWith(BUILTIN)) return undefined;
      const name = id.slice(BUILTIN.length);
      const builtin: object = process.getBuiltinModule(name) ?? {};
      const names = Object.keys(builtin).filter((key) => /^\w+$/.test(key) && key !== "default");
      // One by one, so that no getter of something else is run: one of node:http loads all of fetch.
      const exports = names.map(
        (key) => `const _${key} = /* @__PURE__ */ read("${key}");\nexport { _${key} as ${key} };\n`,
      );
      return `const builtin = /* @__PURE__ */ process.getBuiltinModule("${name}");
const read = (key) => builtin[key];
export default builtin;
${exports.join("")}`;
    },
  };
}

/**
 * Two thirds of undici are what nobody here uses, a fetch and WebSockets above all. They would be a quarter of the bundle,
 * which is read and checked at each start.
 */
function lessOfUndici(): Plugin {
  return {
    name: "less-of-undici",
    transform: {
      filter: { id: /\/undici\/index\.js$/ },
      handler: () => `"use strict";
const Dispatcher = require("./lib/dispatcher/dispatcher");
Object.assign(Dispatcher.prototype, require("./lib/api"));
module.exports.Agent = require("./lib/dispatcher/agent");
module.exports.request = (url, { dispatcher, ...options }) =>
  dispatcher.request({ ...options, origin: url.origin, path: url.pathname + url.search });
`,
    },
  };
}

/** @throws {Error} when a static import is left: in an older Node it would end in a stack trace. */
function finishText(code: string): string {
  const left = /^import .*$/m.exec(code);
  if (left !== null) throw new Error(`The bundle of flywheel has a static import: ${left[0]}`);
  // A text with one other character takes V8 twice the memory, and a tenth of a start longer.
  const ascii = code.replaceAll(
    /[^\0-\x7f]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return PREFACE + ascii;
}
