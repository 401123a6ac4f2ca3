import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import { parseAllDocuments } from "yaml";

/** A component of `gitlab/templates`. */
export type ComponentName = "attic" | "bazel" | "cache-identity";

/** An input as `spec: inputs` describes it. */
interface InputSpec {
  readonly description: string;
  readonly default?: string | number | boolean;
  readonly type?: string;
  readonly options?: readonly string[];
  readonly regex?: string;
}

/** The two documents of a component's file. */
export interface ComponentFile {
  readonly inputs: Readonly<Record<string, InputSpec>>;
  /** What it adds to a pipeline, inputs not yet filled in. */
  readonly content: Readonly<Record<string, unknown>>;
}

/** What a hidden job of ours holds. */
interface HiddenJob {
  readonly before_script: readonly string[];
  readonly after_script: readonly string[];
}

/** The text of a component's file. */
export function readTemplate(name: ComponentName): Promise<string> {
  const url = new URL(`../../gitlab/templates/${name}.yml`, import.meta.url);
  return readFile(fileURLToPath(url), "utf8");
}

/** Reads a component as it is. */
export async function readComponent(name: ComponentName): Promise<ComponentFile> {
  const [spec, content] = parseAllDocuments(await readTemplate(name)).map(
    (document) => document.toJS() as Record<string, unknown>,
  );
  const { inputs } = (spec as { spec: Pick<ComponentFile, "inputs"> }).spec;
  return { inputs, content: content ?? {} };
}

/** The scripts of a component's hidden job with these inputs, filled in as GitLab does: text for text. */
export async function fillIn(
  name: "attic" | "bazel",
  given: Readonly<Record<string, string>>,
): Promise<{ readonly before: string; readonly after: string }> {
  const { inputs, content } = await readComponent(name);
  const [job] = Object.values(content) as HiddenJob[];
  const fill = (lines: readonly string[] = []): string =>
    lines
      .join("\n")
      .replaceAll(/\$\[\[ inputs\.([\w-]+) \]\]/g, (_, input: string) =>
        String(given[input] ?? inputs[input]?.default ?? ""),
      );
  return { before: fill(job?.before_script), after: fill(job?.after_script) };
}
