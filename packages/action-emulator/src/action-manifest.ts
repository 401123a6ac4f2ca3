import { readFile } from "node:fs/promises";
import path from "node:path";

import { CacheError } from "@glorious/core";
import { parse } from "yaml";

/** What an `action.yml` says that running the action needs. */
export interface ActionManifest {
  readonly name: string;
  readonly inputs: Readonly<Record<string, ActionInput>>;
  /** The names of its outputs. */
  readonly outputs: readonly string[];
  /** Such as `node24`. */
  readonly using: string;
  readonly pre: string | undefined;
  readonly main: string;
  readonly post: string | undefined;
  /** A condition; default `always()`. */
  readonly postIf: string;
}

/** One input of an action. */
export interface ActionInput {
  readonly description: string;
  readonly default: string | undefined;
  /** Stated, but not enforced by any runner. */
  readonly isRequired: boolean;
  readonly deprecationMessage: string | undefined;
}

/**
 * Reads the `action.yml` (or `action.yaml`) of a folder.
 *
 * @throws {CacheError} `NOT_FOUND` without such a file, `INVALID` when it is no action, `UNSUPPORTED` when it is no
 *   JavaScript action.
 */
export async function readActionManifest(actionDirectory: string): Promise<ActionManifest> {
  const { file, text } = await readFirst(actionDirectory, ["action.yml", "action.yaml"]);
  const document = asRecord(parse(text), file);
  const runs = asRecord(document["runs"], `runs of ${file}`);
  const using = readText(runs["using"]) ?? "";
  if (!/^node\d+$/.test(using)) {
    throw new CacheError("UNSUPPORTED", `${file} runs with ${JSON.stringify(using)}`, {
      hint: "The emulator runs JavaScript actions: `using: node24`.",
    });
  }
  const main = readText(runs["main"]);
  if (main === undefined) throw new CacheError("INVALID", `${file} names no \`main\``);
  return {
    name: readText(document["name"]) ?? path.basename(actionDirectory),
    inputs: Object.fromEntries(
      Object.entries(asRecord(document["inputs"] ?? {}, `inputs of ${file}`)).map(
        ([name, value]) => [name, readInput(asRecord(value ?? {}, `input ${name} of ${file}`))],
      ),
    ),
    outputs: Object.keys(asRecord(document["outputs"] ?? {}, `outputs of ${file}`)),
    using,
    pre: readText(runs["pre"]),
    main,
    post: readText(runs["post"]),
    postIf: readText(runs["post-if"]) ?? "always()",
  };
}

function readInput(fields: Readonly<Record<string, unknown>>): ActionInput {
  return {
    description: readText(fields["description"]) ?? "",
    default: readText(fields["default"]),
    isRequired: fields["required"] === true,
    deprecationMessage: readText(fields["deprecationMessage"]),
  };
}

async function readFirst(
  directory: string,
  names: readonly string[],
): Promise<{ readonly file: string; readonly text: string }> {
  for (const name of names) {
    const file = path.join(directory, name);
    try {
      return { file, text: await readFile(file, "utf8") };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
  throw new CacheError("NOT_FOUND", `${directory} holds no ${names.join(" or ")}`);
}

/** YAML has numbers and booleans where a workflow means texts. */
export function readText(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  return typeof value === "number" || typeof value === "boolean" ? String(value) : undefined;
}

/** @throws {CacheError} `INVALID` when it is no mapping. */
export function asRecord(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  throw new CacheError("INVALID", `${what} is no mapping`);
}
