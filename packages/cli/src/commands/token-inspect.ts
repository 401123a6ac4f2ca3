import { CacheError, isCacheError } from "@glorious/core";
import { decodeTokenUnverified, parseTokenClaims, type TokenClaims } from "@glorious/trust";

import { type CliContext, note, printLine, warn } from "../cli-context.ts";
import { type Command, defineCommand, flag, text } from "../command.ts";
import { formatFacts } from "../format-table.ts";
import { readTokenFile } from "../read-secret.ts";
import {
  chooseServer,
  readExplicitToken,
  SERVER_ENVIRONMENT,
  SERVER_OPTIONS,
} from "../server-options.ts";

export const command: Command = defineCommand({
  name: "token inspect",
  summary: "Show what a token says",
  description: `Reads FILE, else the token that other commands would use. Nothing is sent anywhere, and the
signature is not verified: only the server can do that. The token itself is not shown.`,
  args: [
    {
      name: "FILE",
      help: "The token's file, - is standard input",
      isOptional: true,
      completes: "file",
    },
  ],
  options: {
    tokenFile: text("FILE", "The same as FILE", { completes: "file" }),
    server: SERVER_OPTIONS.server,
    json: flag("Print header and claims as one line of JSON"),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    { comment: "Look at the token you are logged in with", command: "flywheel token inspect" },
    { comment: "Look at a token in a file", command: "flywheel token inspect ci.token" },
  ],
  async run({ options, args }, context) {
    const token = await readToken(args[0] ?? options.tokenFile, options.server, context);
    const decoded = decodeTokenUnverified(token);
    if (decoded === undefined) {
      throw new CacheError("UNSUPPORTED", "The token cannot be read: it is no JSON Web Token", {
        hint: "It may still be good: only the server has to understand it.",
      });
    }
    if (options.json) return printLine(context, JSON.stringify(decoded));
    const claims = readClaims(decoded.payload, context);
    if (claims === undefined) return;
    for (const line of describeClaims(claims, decoded.header, context.nowMs()))
      printLine(context, line);
    note(context, "The signature was not verified.");
  },
});

async function readToken(
  file: string | undefined,
  server: string | undefined,
  context: CliContext,
): Promise<string> {
  if (file !== undefined) return readTokenFile(file, context);
  const explicit = await readExplicitToken(undefined, context);
  if (explicit !== undefined) return explicit;
  const { token } = await chooseServer({ server, tokenFile: undefined }, context);
  if (token !== undefined) return token;
  throw new CacheError("CONFIG", "There is no token to inspect", { hint: "Name its file." });
}

function readClaims(payload: unknown, context: CliContext): TokenClaims | undefined {
  try {
    return parseTokenClaims(payload);
  } catch (error) {
    if (!isCacheError(error)) throw error;
    warn(context, `${error.message}. No cache server will accept it.`);
    return undefined;
  }
}

function describeClaims(
  claims: TokenClaims,
  header: Readonly<Record<string, unknown>>,
  nowMs: number,
): string[] {
  const { expiresAtMs, notBeforeMs } = claims;
  const isExpired = expiresAtMs !== undefined && expiresAtMs < nowMs;
  const lines = formatFacts([
    ["subject", claims.subject ?? "none"],
    ["id (jti)", claims.jti ?? "none: it cannot be revoked"],
    ["issuer", claims.issuer ?? "none"],
    [
      "expires",
      expiresAtMs === undefined
        ? "never"
        : `${formatTime(expiresAtMs)}${isExpired ? " (expired)" : ""}`,
    ],
    ["valid from", notBeforeMs === undefined ? "ever" : formatTime(notBeforeMs)],
    ["signed with", describeKey(header)],
    ["administrator", claims.isAdmin ? "yes" : "no"],
  ]);
  const grants = claims.caches.map(
    ([pattern, permissions]) => [`  ${pattern}`, [...permissions].join(", ") || "nothing"] as const,
  );
  return [...lines, ...(grants.length === 0 ? [] : ["views:", ...formatFacts(grants)])];
}

function describeKey({ alg, kid }: Readonly<Record<string, unknown>>): string {
  const algorithm = typeof alg === "string" ? alg : "unknown";
  return typeof kid === "string" ? `${algorithm}, key ${kid}` : algorithm;
}

function formatTime(timeMs: number): string {
  return new Date(timeMs).toISOString();
}
