import { type CacheError, describeError, formatDurationMs, isCacheError } from "@glorious/core";
import { decodeTokenUnverified, parseTokenClaims, type TokenClaims } from "@glorious/trust";

import { openAdminClient } from "../admin-client.ts";
import { type CliContext, printLine } from "../cli-context.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import { formatFacts } from "../format-table.ts";
import {
  chooseServer,
  SERVER_ENVIRONMENT,
  SERVER_OPTIONS,
  type ServerChoice,
} from "../server-options.ts";

export const command: Command = defineCommand({
  name: "whoami",
  summary: "Show who the server takes you for, and until when",
  description: `Tenant, trust, why, and what may be read and written, as the token says. The server is asked whether it takes
the token: a revoked one is told, and the command fails.`,
  options: {
    ...SERVER_OPTIONS,
    offline: flag("Do not ask the server"),
    json: flag("Print it as one line of JSON"),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    { comment: "After an exchange in a CI job", command: "flywheel whoami" },
    { comment: "For a script", command: "flywheel whoami --json" },
  ],
  async run({ options }, context) {
    const choice = await chooseServer(options, context);
    const refusal = options.offline ? undefined : await findRefusal(choice, context);
    const identity = describeIdentity(choice, refusal);
    if (options.json) printLine(context, JSON.stringify(identity));
    else for (const line of formatIdentity(identity, context.nowMs())) printLine(context, line);
    if (refusal !== undefined) throw refusal;
  },
});

interface WhoIs {
  readonly server: string;
  /** `undefined` without a token, or one that cannot be read. */
  readonly subject?: string | undefined;
  readonly tenant?: string | undefined;
  readonly trust?: string | undefined;
  readonly reason?: string | undefined;
  readonly rule?: string | undefined;
  readonly principal?: string | undefined;
  readonly run?: string | undefined;
  /** How many entries of a merge queue's overlay the exchange took over. */
  readonly adopted?: number | undefined;
  readonly read?: readonly string[] | undefined;
  readonly write?: string | undefined;
  /** ISO 8601. */
  readonly expiresAt?: string | undefined;
  readonly isAdmin?: boolean | undefined;
  /** Patterns of a token that nobody exchanged. */
  readonly caches?: Readonly<Record<string, readonly string[]>> | undefined;
  /** Why the server does not take the token. */
  readonly refused?: string | undefined;
  readonly isAnonymous: boolean;
}

async function findRefusal(
  choice: ServerChoice,
  context: CliContext,
): Promise<CacheError | undefined> {
  if (choice.token === undefined) return undefined;
  try {
    await using admin = await openAdminClient(choice, context);
    await admin.listViews();
    return undefined;
  } catch (error) {
    if (isCacheError(error, "UNAUTHENTICATED")) return error;
    throw error;
  }
}

function describeIdentity({ server, token }: ServerChoice, refusal: CacheError | undefined): WhoIs {
  const refused = refusal === undefined ? {} : { refused: describeError(refusal) };
  if (token === undefined) return { server, isAnonymous: true };
  const claims = readClaims(token);
  if (claims === undefined) return { server, isAnonymous: false, ...refused };
  const { subject, expiresAtMs, grant, caches, isAdmin } = claims;
  const expiresAt = expiresAtMs === undefined ? undefined : new Date(expiresAtMs).toISOString();
  const common = { server, subject, expiresAt, isAnonymous: false, ...refused };
  if (grant === undefined) {
    const patterns = caches.map(([pattern, permissions]) => [pattern, [...permissions]] as const);
    return { ...common, isAdmin, caches: Object.fromEntries(patterns) };
  }
  const { tenant, trust, reason, rule, principal, run, adopted, read, write } = grant;
  return { ...common, tenant, trust, reason, rule, principal, run, adopted, read, write };
}

/** A token of another server may be good and unreadable. */
function readClaims(token: string): TokenClaims | undefined {
  try {
    return parseTokenClaims(decodeTokenUnverified(token)?.payload);
  } catch (error) {
    if (isCacheError(error)) return undefined;
    throw error;
  }
}

function formatIdentity(who: WhoIs, nowMs: number): string[] {
  if (who.isAnonymous) {
    return formatFacts([
      ["server", who.server],
      ["you are", "nobody in particular: there is no token for this server"],
    ]);
  }
  const facts: Array<readonly [string, string | undefined]> = [
    ["server", who.server],
    ["tenant", who.trust === undefined ? undefined : (who.tenant ?? "the default one")],
    ["trust", who.trust],
    ["because", who.reason],
    ["rule", who.rule],
    ["principal", who.principal ?? who.subject],
    ["run", who.run],
    ["reads", who.read?.join(", then ")],
    ["writes", who.trust === undefined ? undefined : (who.write ?? "nothing")],
    ["adopted", who.adopted ? `${who.adopted} entries that a merge queue built` : undefined],
    ["administrator", who.isAdmin === true ? "yes" : undefined],
    ...Object.entries(who.caches ?? {}).map(
      ([pattern, permissions]) => [`view ${pattern}`, permissions.join(", ")] as const,
    ),
    ["expires", formatExpiry(who.expiresAt, nowMs)],
    ["refused", who.refused],
  ];
  return formatFacts(
    facts.filter((fact): fact is readonly [string, string] => fact[1] !== undefined),
  );
}

function formatExpiry(expiresAt: string | undefined, nowMs: number): string {
  if (expiresAt === undefined) return "never, as far as can be read";
  const leftMs = Date.parse(expiresAt) - nowMs;
  return leftMs < 0 ? `${expiresAt} (expired)` : `${expiresAt} (in ${formatDurationMs(leftMs)})`;
}
