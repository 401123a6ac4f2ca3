import { parseServerUrl } from "@glorious/cache-client";
import { CacheError, isCacheError } from "@glorious/core";
import { parseSetupRequest, type SetupKind, type SetupRequest } from "@glorious/runner-agent";

import { oneOf } from "./one-of.ts";
import { wholeNumber } from "./parse-number.ts";
import { UsageError } from "./usage-error.ts";

/** The inputs of the GitLab components that say what is to be set up; the actions have the same. */
const INPUT_NAMES = [
  "server-url",
  "cache",
  "extra-caches",
  "push",
  "push-mode",
  "push-filter",
  "configure-substituter",
  "priority",
  "instance-name",
  "bazelrc",
  "config-name",
  "compression",
  "download",
  "remote-timeout",
  "bazel-version",
  "drain-timeout",
  "timeout",
  "audience",
  "token",
] as const;
type InputName = (typeof INPUT_NAMES)[number];

/** What the inputs are read in. */
export interface InputContext {
  readonly kinds: readonly SetupKind[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly workspace: string;
}

/**
 * Reads a component's inputs as its script hands them over: `name=value` lines. A line that begins with no input's name
 * goes on with the value before it, so that no character of a value needs an escape.
 *
 * @throws {UsageError} naming the input whose value makes no sense. An empty value counts as not given.
 */
export function readComponentInputs(source: string, context: InputContext): SetupRequest {
  const inputs = splitInputs(source);
  const read = <T>(name: InputName, parse: (text: string) => T): T | undefined => {
    const text = inputs.get(name)?.trim() ?? "";
    if (text === "") return undefined;
    try {
      return parse(text);
    } catch (error) {
      if (!isCacheError(error)) throw error;
      throw new UsageError(`The input ${name}: ${error.message}`, error.hint);
    }
  };
  const expand = (text: string): string => expandVariables(text, context.env);
  const seconds = wholeNumber(1, 86_400);
  const forNix = context.kinds.includes("nix");
  return parseSetupRequest(
    JSON.stringify({
      version: 1,
      kinds: context.kinds,
      serverUrl: read("server-url", (text) => requireAddress(expand(text))),
      view: read("cache", expand),
      extraViews: read("extra-caches", (text) => expand(text).split(/\s+/)),
      audience: read("audience", expand),
      token: read("token", expand),
      push: read("push", oneOf("auto", "true", "false")),
      pushMode: forNix ? read("push-mode", oneOf("auto", "hook", "store-diff", "none")) : "none",
      pushFilter: read("push-filter", readPatterns),
      configureSubstituter: forNix && read("configure-substituter", readBoolean),
      priority: read("priority", wholeNumber(0, 1000)),
      timeoutSeconds: read("timeout", seconds),
      drainTimeoutSeconds: read("drain-timeout", seconds),
      bazel: context.kinds.includes("bazel")
        ? {
            instanceName: read("instance-name", expand),
            rc: read("bazelrc", oneOf("user", "file", "none")),
            configName: read("config-name", requireConfigName),
            compression: read("compression", readBoolean),
            download: read("download", oneOf("toplevel", "minimal", "all")),
            remoteTimeoutSeconds: read("remote-timeout", seconds),
            bazelVersion: read("bazel-version", (text) => text),
          }
        : undefined,
      workspace: context.workspace,
    }),
  );
}

function splitInputs(source: string): ReadonlyMap<InputName, string> {
  const inputs = new Map<InputName, string>();
  let current: InputName | undefined;
  for (const line of source.split("\n")) {
    const name = INPUT_NAMES.find((known) => line.startsWith(`${known}=`));
    if (name !== undefined) inputs.set(name, line.slice(name.length + 1));
    else if (current !== undefined) inputs.set(current, `${inputs.get(current)}\n${line}`);
    current = name ?? current;
  }
  return inputs;
}

/** As the shell does it within double quotes, for what a pipeline writes as `$NAME`. One that is not set is empty. */
function expandVariables(text: string, env: InputContext["env"]): string {
  return text.replaceAll(
    /\$(?:\{(\w+)\}|(\w+))/g,
    (_, braced: string | undefined, bare: string | undefined) => env[braced ?? bare ?? ""] ?? "",
  );
}

function requireAddress(text: string): string | undefined {
  if (text === "") return undefined;
  parseServerUrl(text);
  return text;
}

function requireConfigName(text: string): string {
  if (/^[\w-]+$/.test(text)) return text;
  throw new CacheError("INVALID", `${JSON.stringify(text)} is no name for --config`);
}

function readBoolean(text: string): boolean {
  return oneOf("true", "false")(text) === "true";
}

function readPatterns(text: string): readonly string[] {
  const patterns = text.split("\n").map((line) => line.trim());
  const wrong = patterns.find((pattern) => !isPattern(pattern));
  if (wrong === undefined) return patterns.filter((pattern) => pattern !== "");
  throw new CacheError("INVALID", `${JSON.stringify(wrong)} is no regular expression`);
}

function isPattern(text: string): boolean {
  try {
    return new RegExp(text) instanceof RegExp;
  } catch {
    return false;
  }
}
