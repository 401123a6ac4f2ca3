import { resolve } from "node:path";

import { type ExchangedToken, replaceFile } from "@glorious/cache-client";
import { CacheError } from "@glorious/core";

import { type CliContext, note, printLine, warn } from "../cli-context.ts";
import { clientConfigPath, readClientConfig } from "../client-config.ts";
import { type Command, defineCommand, flag, text } from "../command.ts";
import { exchangeIdentity, saveServer } from "../exchange-identity.ts";
import type { SavedIdentity } from "../saved-identity.ts";
import { findServer, SERVER_OPTIONS, VIEW_OPTION } from "../server-options.ts";
import { UsageError } from "../usage-error.ts";
import { abbreviate } from "../user-folders.ts";

export const command: Command = defineCommand({
  name: "exchange",
  summary: "Exchange a CI job's identity for a token of the server",
  description: `Needs no secret: the forge says which job this is, the server's policy what that job may do. The identity
comes from FLYWHEEL_ID_TOKEN, from GitHub's or Forgejo's OIDC variables, or from the token file of the runner's
configuration. The token goes into a file that only you can read, together with what is needed to get the next one:
commands that find it about to expire exchange again by themselves.`,
  options: {
    server: SERVER_OPTIONS.server,
    ...VIEW_OPTION,
    readOnly: flag("Ask for a token that can only read"),
    requireWrite: flag("Fail when the job may not write"),
    audience: text("URL", "The server's public address, when --server is another one", {
      completes: "nothing",
    }),
    output: text("FILE", "Write the token into FILE and nowhere else; it is not renewed", {
      completes: "file",
    }),
    printToken: flag("Print the token and save nothing; anybody who reads the log has it then"),
    json: flag("Print the grant and the endpoints, without the token, as one line of JSON"),
  },
  environment: [
    [
      "FLYWHEEL_ID_TOKEN",
      "The job's identity token, made for the server's public address (GitLab)",
    ],
    ["ACTIONS_ID_TOKEN_REQUEST_URL", "Where GitHub and Forgejo give identity tokens, with _TOKEN"],
    ["ACTIONS_CACHE_MODE", "When it is read or none, the token can only read"],
    [
      "FLYWHEEL_RUNNER_CONFIG",
      "JSON file of the runner: version, server, audience, identityTokenFile",
    ],
  ],
  examples: [
    {
      comment: "In a job: log in with the job's identity",
      command: "flywheel exchange --server https://cache.example.org",
    },
    {
      comment: "A token for another program, in a file",
      command: "flywheel exchange --server https://cache.example.org --output attic.token",
    },
  ],
  async run({ options }, context) {
    if (options.readOnly && options.requireWrite) {
      throw new UsageError("--read-only and --require-write exclude each other");
    }
    if (options.printToken && (options.output !== undefined || options.json)) {
      throw new UsageError("--print-token excludes --output and --json");
    }
    const { server, name, identity } = await prepare(options, context);
    const exchanged = await exchangeIdentity(server, identity, context);
    await keep(exchanged, { server, name, identity }, options, context);
    if (options.json) {
      const { token: _, ...rest } = exchanged;
      printLine(context, JSON.stringify(rest));
    }
  },
});

interface Prepared {
  readonly server: string;
  /** Under which name it is saved. */
  readonly name: string;
  readonly identity: SavedIdentity;
}

interface PrepareOptions {
  readonly server: string | undefined;
  readonly view: string | undefined;
  readonly readOnly: boolean;
  readonly requireWrite: boolean;
  readonly audience: string | undefined;
  readonly output: string | undefined;
  readonly printToken: boolean;
}

async function prepare(options: PrepareOptions, context: CliContext): Promise<Prepared> {
  const { chooseAudience, createExchangeClient, findIdentity, readRunnerConfig } =
    await import("@glorious/cache-client");
  const runner = await readRunnerConfig(context.env);
  const config = await readClientConfig(context);
  const [saved, known] = await findServer(options.server ?? runner.server, config);
  const { url } = known;
  const isKept = !options.printToken && options.output === undefined;
  if (isKept && known.token !== undefined && known.identity === undefined) {
    throw new CacheError("CONFIG", `There is a token of \`flywheel login\` for ${url}`, {
      hint: "Write the new one elsewhere with --output FILE, or run `flywheel logout` first.",
    });
  }
  const found = findIdentity(context.env, runner);
  if (found.kind === "none") {
    throw new CacheError("CONFIG", "There is no identity to exchange", { hint: found.hint });
  }
  await using client = createExchangeClient({ server: url, signal: context.signal });
  const discovery = await client.discover();
  for (const notice of discovery.notices) note(context, `The server says: ${notice}`);
  const audience = chooseAudience(url, discovery, options.audience ?? runner.audience);
  const mode = chooseMode(options, context);
  const { view } = options;
  return {
    server: url,
    name: saved ?? new URL(url).host,
    identity: {
      source: found.source,
      audience,
      ...(view === undefined ? {} : { view }),
      ...(mode === undefined ? {} : { mode }),
    },
  };
}

/** A workflow that forbids its jobs to write caches is obeyed; it can never allow more. */
function chooseMode(options: PrepareOptions, context: CliContext): "read" | "write" | undefined {
  const forgeMode = context.env["ACTIONS_CACHE_MODE"];
  const isForbidden = forgeMode === "read" || forgeMode === "none";
  if (isForbidden && options.requireWrite) {
    throw new CacheError(
      "CONFIG",
      `The workflow forbids to write: ACTIONS_CACHE_MODE is ${forgeMode}`,
    );
  }
  if (options.readOnly || isForbidden) return "read";
  return options.requireWrite ? "write" : undefined;
}

async function keep(
  exchanged: ExchangedToken,
  { server, name, identity }: Prepared,
  options: { readonly output: string | undefined; readonly printToken: boolean },
  context: CliContext,
): Promise<void> {
  const { token, grant } = exchanged;
  describeGrant(exchanged, context);
  if (options.printToken) return printLine(context, token);
  if (options.output !== undefined) {
    const file = resolve(context.workingDirectory, options.output);
    await replaceFile(file, `${token}\n`, { mode: 0o600 });
    return note(context, `The token is in ${abbreviate(file, context.env)}.`);
  }
  const view = grant.write ?? grant.read[0];
  const saved = { url: server, token, identity, ...(view === undefined ? {} : { view }) };
  await saveServer(name, saved, context, { makeDefault: true });
  const place = abbreviate(clientConfigPath(context), context.env);
  note(context, `Saved ${name}, the default server, with its token in ${place}.`);
}

function describeGrant({ grant, expiresAt }: ExchangedToken, context: CliContext): void {
  const { tenant, trust, read, write, reason } = grant;
  const whose = tenant === undefined ? "The default tenant" : `Tenant ${tenant}`;
  note(context, `${whose}, ${trust}: ${reason}`);
  const what = write === undefined ? "writes nothing" : `writes ${write}`;
  note(context, `Reads ${read.join(", then ")}; ${what}; until ${expiresAt}.`);
  if (trust === "untrusted") warn(context, "The job is not trusted: what it builds is not kept.");
}
