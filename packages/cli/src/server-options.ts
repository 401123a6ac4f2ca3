import { CacheError } from "@glorious/core";

import type { CliContext } from "./cli-context.ts";
import { type ClientConfig, readClientConfig, type SavedServer } from "./client-config.ts";
import { text, type ValueOption } from "./command.ts";
import { refreshToken } from "./exchange-identity.ts";
import { readTokenFile, requireToken } from "./read-secret.ts";

/** The options of every command that talks to a server. */
export const SERVER_OPTIONS: {
  readonly server: ValueOption<string>;
  readonly tokenFile: ValueOption<string>;
} = {
  server: text("URL", "The server, or the name under which you logged in to it", {
    environment: "FLYWHEEL_SERVER",
  }),
  tokenFile: text("FILE", "Take the token from FILE, - is standard input", { completes: "file" }),
};

/** The option of every command that needs a view. */
export const VIEW_OPTION: { readonly view: ValueOption<string> } = {
  view: text("NAME", "The view", { environment: "FLYWHEEL_VIEW" }),
};

/** The variables of every command that talks to a server. */
export const SERVER_ENVIRONMENT: ReadonlyArray<readonly [string, string]> = [
  ["FLYWHEEL_TOKEN", "The token, when there is no --token-file"],
];

/** Which server a command talks to, and as whom. */
export interface ServerChoice {
  /** With a trailing slash. */
  readonly server: string;
  /** Secret. `undefined`: anonymous. */
  readonly token: string | undefined;
  /** The view to take when none is named. */
  readonly view: string | undefined;
}

/** What {@link chooseServer} looks at. */
export interface ServerOptionValues {
  readonly server: string | undefined;
  readonly tokenFile: string | undefined;
}

/**
 * Decides which server to talk to: the one named, else the one `login` made the default.
 *
 * A saved token goes to the very address it was saved for and nowhere else. One that was exchanged and is about to
 * expire is exchanged again.
 *
 * @throws {CacheError} `CONFIG` when no server is named or saved; what `refreshToken` throws.
 */
export async function chooseServer(
  options: ServerOptionValues,
  context: CliContext,
): Promise<ServerChoice> {
  const config = await readClientConfig(context);
  const [name, saved] = await findServer(options.server, config);
  const explicit = await readExplicitToken(options.tokenFile, context);
  return {
    server: saved.url,
    token: explicit ?? (await refreshToken(name, saved, context)).token,
    view: saved.view,
  };
}

/** The token from `--token-file` or FLYWHEEL_TOKEN, if there is one. */
export async function readExplicitToken(
  tokenFile: string | undefined,
  context: CliContext,
): Promise<string | undefined> {
  if (tokenFile !== undefined) return readTokenFile(tokenFile, context);
  const fromEnvironment = context.env["FLYWHEEL_TOKEN"];
  if (fromEnvironment === undefined || fromEnvironment === "") return undefined;
  return requireToken(fromEnvironment, "FLYWHEEL_TOKEN");
}

/** The view that was named, else the one saved. @throws {CacheError} `CONFIG` when there is none. */
export function requireView(named: string | undefined, choice: ServerChoice): string {
  const view = named ?? choice.view;
  if (view !== undefined) return view;
  throw new CacheError("CONFIG", "No view is named", {
    hint: "Give --view NAME, set FLYWHEEL_VIEW, or save one with `flywheel login --view NAME`.",
  });
}

/**
 * The server that is meant, and the name it is saved under, if it is.
 *
 * @throws {CacheError} `CONFIG` when there is none of that name, or none is named or saved.
 */
export async function findServer(
  named: string | undefined,
  config: ClientConfig,
): Promise<readonly [name: string | undefined, server: SavedServer]> {
  const name = named ?? config.defaultServer;
  if (name === undefined) {
    throw new CacheError("CONFIG", "No server is named", {
      hint: "Give --server URL, set FLYWHEEL_SERVER, or log in with `flywheel login URL`.",
    });
  }
  const byName = Object.hasOwn(config.servers, name) ? config.servers[name] : undefined;
  if (byName !== undefined) return [name, byName];
  if (!name.includes("/")) {
    const known = Object.keys(config.servers);
    throw new CacheError("CONFIG", `There is no saved server ${JSON.stringify(name)}`, {
      hint:
        known.length === 0
          ? "Give its address, such as https://cache.example.org, or log in to it first."
          : `Give its address, or one of ${known.join(", ")}.`,
    });
  }
  const { parseServerUrl } = await import("@glorious/cache-client");
  const url = parseServerUrl(name).href;
  return (
    Object.entries(config.servers).find(([, server]) => server.url === url) ?? [undefined, { url }]
  );
}
