import { dirname, join } from "node:path";

import { CacheError, makeFolder } from "@glorious/core";

import type { CliContext } from "./cli-context.ts";
import { readOptionalFile } from "./read-file.ts";
import { parseSavedIdentity, type SavedIdentity } from "./saved-identity.ts";
import { configHome } from "./user-folders.ts";

/** A server that `login` or `exchange` remembers. */
export interface SavedServer {
  /** With a trailing slash. */
  readonly url: string;
  /** Secret. */
  readonly token?: string;
  /** The view that commands take when none is named. */
  readonly view?: string;
  /** How the token was got, so that it can be got again. */
  readonly identity?: SavedIdentity;
}

/** What `login` and `exchange` saved. */
export interface ClientConfig {
  readonly defaultServer?: string;
  readonly servers: Readonly<Record<string, SavedServer>>;
}

/** Where {@link readClientConfig} reads. */
export function clientConfigPath(context: CliContext): string {
  return join(configHome(context.env), "flywheel", "config.json");
}

/**
 * Reads what `login` saved; nothing when it never did.
 *
 * @throws {CacheError} `CONFIG` naming the key that is malformed, never its value.
 */
export async function readClientConfig(context: CliContext): Promise<ClientConfig> {
  const path = clientConfigPath(context);
  const source = await readOptionalFile(path, "utf8");
  return source === undefined ? { servers: {} } : parseClientConfig(source, path);
}

/** Saves, readable by the user alone. */
export async function writeClientConfig(context: CliContext, config: ClientConfig): Promise<void> {
  const path = clientConfigPath(context);
  await makeFolder(dirname(path), { mode: 0o700 });
  // Not loaded by those who only read, such as the credential helper that Bazel waits for.
  const { replaceFile } = await import("@glorious/cache-client");
  await replaceFile(path, `${JSON.stringify(config, undefined, 2)}\n`, { mode: 0o600 });
}

/** The text of the file as a value; `path` is for messages. @throws {CacheError} `CONFIG`. */
export function parseClientConfig(source: string, path: string): ClientConfig {
  let value: unknown;
  try {
    value = JSON.parse(source);
  } catch {
    // The parser's own message would quote the file, tokens included.
    throw malformed(path, "it is no JSON");
  }
  if (!isObject(value)) throw malformed(path, "it holds no object");
  const servers = new Map<string, SavedServer>();
  const saved = value["servers"] ?? {};
  if (!isObject(saved)) throw malformed(path, "servers is no object");
  for (const [name, server] of Object.entries(saved)) {
    if (!isObject(server)) throw malformed(path, `servers.${name} is no object`);
    const url = readText(server, "url", `servers.${name}`, path);
    if (url === undefined) throw malformed(path, `servers.${name}.url is missing`);
    const token = readText(server, "token", `servers.${name}`, path);
    const view = readText(server, "view", `servers.${name}`, path);
    const identity = server["identity"];
    servers.set(name, {
      url,
      ...(identity === undefined
        ? {}
        : {
            identity: parseSavedIdentity(identity, () =>
              malformed(path, `servers.${name}.identity`),
            ),
          }),
      ...(token === undefined ? {} : { token }),
      ...(view === undefined ? {} : { view }),
    });
  }
  const defaultServer = readText(value, "defaultServer", "", path);
  return {
    ...(defaultServer === undefined ? {} : { defaultServer }),
    // Unlike an assignment it takes `__proto__` for the name that it is.
    servers: Object.fromEntries(servers),
  };
}

function readText(
  holder: Record<string, unknown>,
  key: string,
  where: string,
  path: string,
): string | undefined {
  const value = holder[key];
  if (value === undefined || typeof value === "string") return value;
  throw malformed(path, `${where === "" ? "" : `${where}.`}${key} is no text`);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function malformed(path: string, what: string): CacheError {
  return new CacheError("CONFIG", `${path} is malformed: ${what}`, {
    hint: "Repair it, or remove it and log in again.",
  });
}
