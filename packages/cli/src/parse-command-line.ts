import { parseArgs, type ParseArgsOptionsConfig } from "node:util";

import { isCacheError, nearestWord } from "@glorious/core";

import type { Command, Invocation, Option, Options } from "./command.ts";
import { toFlagName } from "./option-name.ts";
import { UsageError } from "./usage-error.ts";

/** A command line that asks for help instead. */
export type ParsedCommandLine =
  | { readonly kind: "help" }
  | ({ readonly kind: "run" } & Invocation<Options>);

/**
 * Reads the words after a command.
 *
 * Options may stand anywhere; after `--` everything is an argument. An option that is absent takes the
 * value of its environment variable, unless that is empty.
 *
 * @throws {UsageError} naming the option or argument that is wrong, with the nearest known one.
 */
export function parseCommandLine(
  command: Command,
  words: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): ParsedCommandLine {
  const seeHelp = `See \`flywheel ${command.name} --help\`.`;
  const byFlag = new Map(
    Object.entries(command.options).map(([name, option]) => [toFlagName(name), { name, option }]),
  );
  const { tokens } = parseArgs({
    args: [...words],
    options: toParseArgsOptions(command.options),
    allowPositionals: true,
    // Our own messages name the nearest option.
    strict: false,
    tokens: true,
  });

  const values = new Map<string, unknown>();
  const given: [string, unknown][] = [];
  const args: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") args.push(token.value);
    if (token.kind !== "option") continue;
    if (token.name === "help") return { kind: "help" };
    const known = byFlag.get(token.name);
    if (known === undefined) throw unknownOption(token.rawName, [...byFlag.keys()], seeHelp);
    const { name, option } = known;
    if (option.kind === "flag") {
      if (token.value !== undefined) {
        throw new UsageError(`${token.rawName} takes no value`, seeHelp);
      }
      values.set(name, true);
      continue;
    }
    if (token.value === undefined || (!token.inlineValue && /^-./.test(token.value))) {
      throw new UsageError(
        `${token.rawName} needs a value: ${option.placeholder}`,
        `Write --${token.name}=${option.placeholder}. ${seeHelp}`,
      );
    }
    if (option.kind === "value" && values.has(name)) {
      throw new UsageError(`${token.rawName} is given twice`, seeHelp);
    }
    const value = parseValue(option, token.value, `--${token.name}`);
    given.push([name, value]);
    if (option.kind === "list")
      values.set(name, [...((values.get(name) as unknown[]) ?? []), value]);
    else values.set(name, value);
  }
  checkArguments(command, args, seeHelp);
  return { kind: "run", options: fillIn(command.options, values, env), args, given };
}

function toParseArgsOptions(options: Options): ParseArgsOptionsConfig {
  const config: ParseArgsOptionsConfig = { help: { type: "boolean", short: "h" } };
  for (const [name, option] of Object.entries(options)) {
    config[toFlagName(name)] = {
      type: option.kind === "flag" ? "boolean" : "string",
      ...(option.short === undefined ? {} : { short: option.short }),
    };
  }
  return config;
}

function unknownOption(rawName: string, known: readonly string[], seeHelp: string): UsageError {
  const nearest = nearestWord(rawName.replace(/^-+/, ""), [...known, "help"]);
  return new UsageError(
    `There is no option ${JSON.stringify(rawName)}`,
    nearest === undefined ? seeHelp : `Did you mean --${nearest}? ${seeHelp}`,
  );
}

function parseValue(
  option: Exclude<Option, { kind: "flag" }>,
  text: string,
  source: string,
): unknown {
  try {
    return option.parse(text);
  } catch (error) {
    if (!isCacheError(error)) throw error;
    throw new UsageError(`${source}: ${error.message}`, error.hint);
  }
}

function checkArguments(command: Command, args: readonly string[], seeHelp: string): void {
  const expected = command.args ?? [];
  const missing = expected[args.length];
  if (missing !== undefined && missing.isOptional !== true) {
    throw new UsageError(`${command.name} needs ${missing.name}: ${missing.help}`, seeHelp);
  }
  const surplus = args[expected.length];
  if (surplus !== undefined && expected.at(-1)?.isRepeated !== true) {
    throw new UsageError(
      `${command.name} does not know what to do with ${JSON.stringify(surplus)}`,
      seeHelp,
    );
  }
}

function fillIn(
  options: Options,
  values: ReadonlyMap<string, unknown>,
  env: Readonly<Record<string, string | undefined>>,
): Record<string, unknown> {
  const filled: Record<string, unknown> = {};
  for (const [name, option] of Object.entries(options)) {
    if (option.kind === "flag") filled[name] = values.get(name) ?? false;
    else if (option.kind === "list") filled[name] = values.get(name) ?? [];
    else filled[name] = values.get(name) ?? fromEnvironment(option, env);
  }
  return filled;
}

function fromEnvironment(
  option: Extract<Option, { kind: "value" }>,
  env: Readonly<Record<string, string | undefined>>,
): unknown {
  const text = option.environment === undefined ? undefined : env[option.environment];
  if (option.environment === undefined || text === undefined || text === "") return undefined;
  return parseValue(option, text, option.environment);
}
