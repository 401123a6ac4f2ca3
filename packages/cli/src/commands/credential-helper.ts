import { CacheError, isCacheError } from "@glorious/core";
import { decodeTokenUnverified } from "@glorious/trust";

import { type CliContext, printLine, warn } from "../cli-context.ts";
import { type Command, defineCommand } from "../command.ts";
import { readStandardInput } from "../read-secret.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";
import { UsageError } from "../usage-error.ts";

/** How long Bazel may keep a token whose end is not near: a new login is to count soon. */
const MAX_AGE_MS = 5 * 60_000;

export const command: Command = defineCommand({
  name: "credential-helper",
  summary: "Give Bazel the token for a server, in its own protocol",
  description: `Bazel runs it: \`flywheel use bazel\` writes the setting. It reads {"uri": "…"} from standard input and
answers with the headers for that address: the token of the server when the address is the server's, and none
otherwise. It never fails for want of a token, because Bazel would fail the build.`,
  args: [{ name: "get", help: "What Bazel wants: always get", completes: ["get"] }],
  options: SERVER_OPTIONS,
  environment: SERVER_ENVIRONMENT,
  examples: [
    {
      comment: "Ask as Bazel does",
      command: `echo '{"uri":"https://cache.example.org"}' | flywheel credential-helper get`,
    },
  ],
  async run({ options, args }, context) {
    if (args[0] !== "get") {
      throw new UsageError(
        `credential-helper does not know ${JSON.stringify(args[0])}`,
        "Bazel's protocol has one request: get.",
      );
    }
    const uri = parseRequest(await readStandardInput(context));
    printLine(context, JSON.stringify(await answer(uri, options, context)));
  },
});

interface CredentialAnswer {
  readonly headers: Readonly<Record<string, readonly string[]>>;
  /** When Bazel is to ask again, as RFC 3339 has it. */
  readonly expires?: string;
}

async function answer(
  uri: URL,
  options: { readonly server: string | undefined; readonly tokenFile: string | undefined },
  context: CliContext,
): Promise<CredentialAnswer> {
  const nothing = { headers: {} };
  let choice;
  try {
    choice = await chooseServer(options, context);
  } catch (error) {
    if (!isCacheError(error)) throw error;
    warn(context, error.message);
    return nothing;
  }
  // Bazel says https whatever it speaks. A token goes to the server it is for and nowhere else.
  if (!isSameServer(uri, new URL(choice.server)) || choice.token === undefined) return nothing;
  const nowMs = context.nowMs();
  const expiresAt = decodeTokenUnverified(choice.token)?.payload["exp"];
  const endMs = typeof expiresAt === "number" ? expiresAt * 1000 : Infinity;
  if (endMs <= nowMs) {
    warn(context, `The token for ${choice.server} has expired: log in again`);
    return nothing;
  }
  return {
    headers: { Authorization: [`Bearer ${choice.token}`] },
    expires: formatTime(Math.min(endMs, nowMs + MAX_AGE_MS)),
  };
}

/** Whole seconds: Bazel 7.7 takes no fraction, and fails the build over one. */
function formatTime(timeMs: number): string {
  return new Date(timeMs).toISOString().replace(/\.\d+Z$/, "Z");
}

function parseRequest(text: string): URL {
  let uri: unknown;
  try {
    const request: unknown = JSON.parse(text);
    uri = new Map<string, unknown>(Object.entries(request ?? {})).get("uri");
  } catch {
    // The message below says all there is to say.
  }
  const url = typeof uri === "string" ? URL.parse(uri) : null;
  if (url !== null) return url;
  throw new CacheError("INVALID", `Standard input holds no {"uri": "https://…"}`, {
    hint: "Bazel writes it; see `flywheel credential-helper --help` for how to ask by hand.",
  });
}

/** The schemes differ, so a port that is left out is the default of each. */
function isSameServer(uri: URL, server: URL): boolean {
  return uri.hostname === server.hostname && uri.port === server.port;
}
