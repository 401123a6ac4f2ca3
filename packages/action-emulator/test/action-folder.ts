import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

/** A folder for one test: a runner in it, and actions beside it. */
export interface TestFolder extends AsyncDisposable {
  /** For {@link RunnerOptions.directory}. */
  readonly runner: string;
  /** Writes an action of these modules and returns its folder. */
  action(name: string, files: ActionFiles): Promise<string>;
  write(file: string, text: string): Promise<string>;
}

/** The sources of an action. */
export interface ActionFiles {
  readonly main: string;
  readonly post?: string;
  readonly postIf?: string;
  /** Defaults by names. */
  readonly inputs?: Readonly<Record<string, string>>;
}

const PRELUDE = `import { appendFileSync } from "node:fs";
const put = (name, line) => appendFileSync(process.env["GITHUB_" + name], line + "\\n");
const input = (name) => process.env["INPUT_" + name.replaceAll(" ", "_").toUpperCase()];
const say = (...lines) => console.log(lines.join("\\n"));
`;

/** Creates the folder; it goes away with everything in it. */
export async function createTestFolder(): Promise<TestFolder> {
  const folder = await mkdtemp(path.join(tmpdir(), "emulator-"));
  const write = async (name: string, text: string): Promise<string> => {
    const file = path.join(folder, name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, text);
    await chmod(file, 0o755);
    return file;
  };
  return {
    runner: path.join(folder, "runner"),
    write,
    async action(name, { main, post, postIf, inputs = {} }) {
      const manifest = {
        name,
        description: "A test's",
        inputs: Object.fromEntries(
          Object.entries(inputs).map(([key, value]) => [key, { description: key, default: value }]),
        ),
        runs: {
          using: "node24",
          main: "main.mjs",
          ...(post === undefined ? {} : { post: "post.mjs" }),
          ...(postIf === undefined ? {} : { "post-if": postIf }),
        },
      };
      await write(path.join(name, "action.yml"), JSON.stringify(manifest));
      await write(path.join(name, "main.mjs"), PRELUDE + main);
      if (post !== undefined) await write(path.join(name, "post.mjs"), PRELUDE + post);
      return path.join(folder, name);
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}
