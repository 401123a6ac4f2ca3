import { resolve } from "node:path";

import { type PermissionLetter, replaceFile } from "@glorious/cache-client";
import { CacheError } from "@glorious/core";
import { type CachePermission, isCachePattern, PERMISSION_CODES } from "@glorious/trust";

import { openAdminClient } from "../admin-client.ts";
import { note, printLine } from "../cli-context.ts";
import { type Command, defineCommand, flag, list, text, value } from "../command.ts";
import { durationSeconds } from "../parse-number.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";
import { UsageError } from "../usage-error.ts";

export const command: Command = defineCommand({
  name: "token create",
  summary: "Make a token that allows what you say",
  description: `A PATTERN is a view's full name in which * stands for anything. For a view, its exact name
decides; else the first pattern on the command line that matches does. Grants of several patterns are
not added up. Needs an administrator's token.`,
  options: {
    ...SERVER_OPTIONS,
    sub: text("NAME", "Whom the token is for; shows up in the server's records"),
    expiresIn: value("TIME", "How long it is good for; default 90d", durationSeconds),
    pull: permission("Read paths"),
    push: permission("Upload paths"),
    delete: permission("Remove paths"),
    create: permission("Create views"),
    configure: permission("Change views"),
    configureRetention: permission("Change how long views keep paths"),
    destroy: permission("Remove views"),
    admin: flag("Also make and revoke tokens: an administrator of the whole server"),
    out: text("FILE", "Write the token to FILE, for your eyes only, instead of standard output", {
      completes: "file",
    }),
    json: flag("Print token, jti and expiresAt as one line of JSON"),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    {
      comment: "A token for a CI job",
      command:
        "flywheel token create --sub ci --pull main --push main --expires-in 30d --out ci.token",
    },
    {
      comment: "A token that may only read all views of the tenant acme",
      command: "flywheel token create --sub reader --pull 'acme+*'",
    },
  ],
  async run({ options, given }, context) {
    if (options.json && options.out !== undefined) {
      throw new UsageError("--json and --out exclude each other");
    }
    const caches = collectGrants(given);
    if (Object.keys(caches).length === 0 && !options.admin) {
      throw new UsageError(
        "The token would allow nothing",
        "Give such as --pull main, or --admin.",
      );
    }
    await using admin = await openAdminClient(await chooseServer(options, context), context);
    const created = await admin.createToken({
      caches,
      isAdmin: options.admin,
      ...(options.sub === undefined ? {} : { subject: options.sub }),
      ...(options.expiresIn === undefined ? {} : { expiresInSeconds: options.expiresIn }),
    });
    if (options.json) return printLine(context, JSON.stringify(created));
    if (options.out === undefined) {
      printLine(context, created.token);
    } else {
      const file = resolve(context.workingDirectory, options.out);
      await replaceFile(file, `${created.token}\n`, { mode: 0o600 });
      note(context, `Wrote the token to ${options.out}.`);
    }
    note(
      context,
      `It expires at ${created.expiresAt}. To revoke it: flywheel token revoke ${created.jti}`,
    );
  },
});

function permission(help: string): ReturnType<typeof list<string>> {
  return list("PATTERN", help, (pattern) => {
    if (isCachePattern(pattern)) return pattern;
    throw new CacheError("INVALID", `${JSON.stringify(pattern)} is no pattern of view names`, {
      hint: "Use letters, digits, - _ + and * as a wildcard, at most 50 characters.",
    });
  });
}

/** Patterns in the order in which they first appear: the order in which the server tries them. */
function collectGrants(
  given: ReadonlyArray<readonly [name: string, value: unknown]>,
): Record<string, PermissionLetter[]> {
  const grants = new Map<string, Set<PermissionLetter>>();
  for (const [name, pattern] of given) {
    if (!Object.hasOwn(PERMISSION_CODES, name) || typeof pattern !== "string") continue;
    const letters = grants.get(pattern) ?? new Set();
    letters.add(PERMISSION_CODES[name as CachePermission]);
    grants.set(pattern, letters);
  }
  return Object.fromEntries([...grants].map(([pattern, letters]) => [pattern, [...letters]]));
}
