import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";

import { CacheError, nearestWord } from "@glorious/core";
import { parse as parseYaml } from "yaml";

import { SETTINGS, type ServerSettings, type Setting, type SettingName } from "./settings.ts";

/** Variables of the client side; a server in the same environment ignores them. */
const CLIENT_VARIABLES: ReadonlySet<string> = new Set([
  "FLYWHEEL_SERVER",
  "FLYWHEEL_TOKEN",
  "FLYWHEEL_VIEW",
  "FLYWHEEL_ID_TOKEN",
  "FLYWHEEL_RUNNER_CONFIG",
]);

/** Settings whose relative paths are relative to the file they stand in. */
const PATH_SETTINGS: ReadonlySet<SettingName> = new Set([
  "dataDirectory",
  "tlsCert",
  "tlsKey",
  "tlsClientCa",
  "trustPolicyFile",
  "overlayKeyFile",
]);

/** `a` and `a.b` of a setting `a.b.c`. */
const GROUPS: ReadonlySet<string> = new Set(
  Object.values(SETTINGS).flatMap(({ key }) => {
    const names = key.split(".");
    return names.slice(1).map((_, index) => names.slice(0, index + 1).join("."));
  }),
);

export interface LoadOptions {
  /** A YAML or JSON file; none by default. */
  readonly file?: string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Values of flags, as written; `flag` names it in errors. They win over variables, variables over the file. */
  readonly flags?: Readonly<
    Partial<Record<SettingName, { readonly flag: string; readonly value: string }>>
  >;
}

interface Source {
  readonly text: string;
  /** How an error names the place. */
  readonly name: string;
}

/**
 * Gathers the server's settings: flags over `FLYWHEEL_*` variables over the file over defaults.
 *
 * @throws {CacheError} `CONFIG` naming the flag, variable or key that is wrong, and the nearest known one.
 */
export async function loadSettings(options: LoadOptions): Promise<ServerSettings> {
  const fromFile =
    options.file === undefined ? new Map<string, Source>() : await readConfigFile(options.file);
  const { environment } = options;
  requireKnownVariables(environment);
  const settings: Partial<Record<SettingName, unknown>> = {};
  for (const [name, definition] of Object.entries(SETTINGS) as [SettingName, Setting<unknown>][]) {
    const flag = options.flags?.[name];
    const variable = environment[definition.variable];
    const source =
      (flag && { text: flag.value, name: flag.flag }) ??
      (variable === undefined ? undefined : { text: variable, name: definition.variable }) ??
      fromFile.get(definition.key) ??
      (definition.default === undefined
        ? undefined
        : { text: definition.default, name: definition.key });
    settings[name] = source === undefined ? undefined : parseSetting(definition, source);
  }
  return requireConsistent(settings as Partial<ServerSettings> as ServerSettings);
}

function parseSetting(definition: Setting<unknown>, { text, name }: Source): unknown {
  try {
    return definition.parse(text);
  } catch (error) {
    if (!(error instanceof CacheError)) throw error;
    throw new CacheError("CONFIG", `${name}: ${error.message}`, { cause: error, hint: error.hint });
  }
}

function requireConsistent(settings: ServerSettings): ServerSettings {
  if ((settings.tlsCert === undefined) !== (settings.tlsKey === undefined)) {
    throw new CacheError("CONFIG", "tls.cert and tls.key belong together, only one is set", {
      hint: "Give both --tls-cert and --tls-key, or neither.",
    });
  }
  if (settings.tlsClientCa !== undefined && settings.tlsCert === undefined) {
    throw new CacheError("CONFIG", "tls.clientCa needs tls.cert and tls.key", {
      hint: "Client certificates exist only with TLS.",
    });
  }
  return settings;
}

function requireKnownVariables(environment: LoadOptions["environment"]): void {
  const known = Object.values(SETTINGS).map((setting): string => setting.variable);
  for (const variable of Object.keys(environment)) {
    if (!variable.startsWith("FLYWHEEL_") || CLIENT_VARIABLES.has(variable)) continue;
    if (known.includes(variable)) continue;
    throw new CacheError("CONFIG", `${variable}: there is no such variable`, {
      hint: `${nearestOf(variable, known)} Unset it, or see docs/reference/configuration.md.`,
    });
  }
}

async function readConfigFile(file: string): Promise<Map<string, Source>> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    const isAbsent = cause instanceof Error && "code" in cause && cause.code === "ENOENT";
    const problem = isAbsent ? "does not exist" : "cannot be read";
    throw new CacheError("CONFIG", `The configuration file ${file} ${problem}`, {
      cause,
      hint: "Check the path given with --config and its permissions.",
    });
  }
  let document: unknown;
  try {
    document = parseYaml(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split("\n")[0] : String(cause);
    throw new CacheError("CONFIG", `${file} is no YAML: ${reason}`, { cause });
  }
  const sources = new Map<string, Source>();
  collect(document ?? {}, "", file, sources);
  return sources;
}

function collect(value: unknown, key: string, file: string, sources: Map<string, Source>): void {
  const entry = Object.entries(SETTINGS).find(([, setting]) => setting.key === key);
  if (entry !== undefined) {
    // A key without a value leaves its setting unset.
    if (value === null) return;
    const text = toText(value, entry[0] as SettingName, file);
    sources.set(key, { text, name: `${file}: ${key}` });
    return;
  }
  const isGroup = GROUPS.has(key);
  // Nor has a group any whose every line is a comment.
  if (isGroup && value === null) return;
  if (key !== "" && !isGroup) {
    const keys = [...Object.values(SETTINGS).map((setting): string => setting.key), ...GROUPS];
    throw new CacheError("CONFIG", `${file}: ${key}: there is no such setting`, {
      hint: `${nearestOf(key, keys)} See docs/reference/configuration.md.`,
    });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new CacheError(
      "CONFIG",
      `${file}: ${key === "" ? "the document" : key} is no group of settings`,
    );
  }
  for (const [name, child] of Object.entries(value)) {
    collect(child, key === "" ? name : `${key}.${name}`, file, sources);
  }
}

/** A value of the file as it would be written in a variable; relative paths become absolute. */
function toText(value: unknown, name: SettingName, file: string): string {
  const relativeTo = dirname(resolve(file));
  if (name === "tokenKeys" && Array.isArray(value)) {
    return JSON.stringify(
      value.map((entry: unknown) =>
        typeof entry === "object" &&
        entry !== null &&
        "file" in entry &&
        typeof entry.file === "string"
          ? { ...entry, file: resolve(relativeTo, entry.file) }
          : entry,
      ),
    );
  }
  if (Array.isArray(value)) return value.map(String).join(",");
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return PATH_SETTINGS.has(name) ? resolve(relativeTo, text) : text;
}

function nearestOf(text: string, known: readonly string[]): string {
  const nearest = nearestWord(text, known);
  return nearest === undefined ? "" : `Did you mean ${nearest}?`;
}
