import { CacheError } from "@glorious/core";

import { checkServer } from "../check-server.ts";
import { type CliContext, note, warn } from "../cli-context.ts";
import {
  clientConfigPath,
  readClientConfig,
  type SavedServer,
  writeClientConfig,
} from "../client-config.ts";
import { type Command, defineCommand, flag, text } from "../command.ts";
import { promptToken, readTokenFile } from "../read-secret.ts";
import { readExplicitToken, SERVER_ENVIRONMENT, VIEW_OPTION } from "../server-options.ts";
import { UsageError } from "../usage-error.ts";
import { abbreviate } from "../user-folders.ts";

export const command: Command = defineCommand({
  name: "login",
  summary: "Remember a server and the token for it",
  description: `The token comes from --token-file, FLYWHEEL_TOKEN, standard input, or you are asked for it. It is
kept in a file that only you can read, and goes to this very address and nowhere else. The server is
asked whether it takes the token, and becomes the default of the other commands.`,
  args: [
    {
      name: "[NAME] URL",
      help: "The server's address, and how to call it; default is its host",
      isRepeated: true,
      completes: "nothing",
    },
  ],
  options: {
    tokenFile: text("FILE", "Take the token from FILE, - is standard input", { completes: "file" }),
    ...VIEW_OPTION,
    anonymous: flag("Save no token: for servers with public views"),
    keepDefault: flag("Leave the default server as it is"),
    offline: flag("Do not ask the server"),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    {
      comment: "Log in with a token from a file, and make main the view to use",
      command: "flywheel login https://cache.example.org --token-file token --view main",
    },
    {
      comment: "Give the server a name of its own, the token comes through a pipe",
      command: "pass show cache | flywheel login work https://cache.example.org",
    },
  ],
  async run({ options, args }, context) {
    const { parseServerUrl } = await import("@glorious/cache-client");
    if (args.length > 2) throw new UsageError("login takes a NAME and a URL, no more");
    const url = parseServerUrl(args.at(-1) ?? "");
    const name = args.length === 2 ? (args[0] ?? "") : url.host;
    if (name === "" || name.includes("/")) {
      throw new UsageError(`${JSON.stringify(name)} is no name for a server`, "Use a short word.");
    }
    if (options.anonymous && options.tokenFile !== undefined) {
      throw new UsageError("--anonymous and --token-file exclude each other");
    }
    const token = options.anonymous ? undefined : await readToken(options.tokenFile, context);
    if (!options.offline) {
      const check = await checkServer({ server: url.href, token, view: options.view }, context);
      for (const line of check.notes) note(context, line);
      for (const line of check.warnings) warn(context, line);
    }
    await save(name, url.href, token, options, context);
  },
});

async function readToken(tokenFile: string | undefined, context: CliContext): Promise<string> {
  const explicit = await readExplicitToken(tokenFile, context);
  if (explicit !== undefined) return explicit;
  if (context.stdin.isTTY === true) return promptToken(context);
  try {
    return await readTokenFile("-", context);
  } catch (error) {
    throw new CacheError("INVALID", "There is no token to save", {
      cause: error,
      hint: "Give --token-file FILE, FLYWHEEL_TOKEN or a token on standard input; or --anonymous.",
    });
  }
}

async function save(
  name: string,
  url: string,
  token: string | undefined,
  options: { readonly view: string | undefined; readonly keepDefault: boolean },
  context: CliContext,
): Promise<void> {
  const config = await readClientConfig(context);
  const old = Object.hasOwn(config.servers, name) ? config.servers[name] : undefined;
  const view = options.view ?? (old?.url === url ? old.view : undefined);
  const server: SavedServer = {
    url,
    ...(token === undefined ? {} : { token }),
    ...(view === undefined ? {} : { view }),
  };
  const defaultServer = options.keepDefault ? (config.defaultServer ?? name) : name;
  await writeClientConfig(context, {
    defaultServer,
    servers: { ...config.servers, [name]: server },
  });
  const place = abbreviate(clientConfigPath(context), context.env);
  const role = defaultServer === name ? ", the default server" : "";
  const what = token === undefined ? "without a token" : "with its token";
  note(context, `Saved ${name}${role}, ${what} in ${place}.`);
}
