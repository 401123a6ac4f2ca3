import { CacheError } from "@glorious/core";
import { decodeTokenUnverified, parseTokenClaims } from "@glorious/trust";

import { openAdminClient } from "../admin-client.ts";
import { type CliContext, note } from "../cli-context.ts";
import { type Command, defineCommand, text } from "../command.ts";
import { readTokenFile } from "../read-secret.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";
import { UsageError } from "../usage-error.ts";

export const command: Command = defineCommand({
  name: "token revoke",
  summary: "Make a token worthless at once",
  description: "Needs an administrator's token. Revoking a token twice is no error.",
  args: [
    {
      name: "JTI",
      help: "The token's id, as `token create` and `token inspect` show it",
      isOptional: true,
      completes: "nothing",
    },
  ],
  options: {
    ...SERVER_OPTIONS,
    tokenToRevoke: text("FILE", "Revoke the token in FILE, instead of naming its id", {
      completes: "file",
    }),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    {
      comment: "Revoke a token by its id",
      command: "flywheel token revoke 3f0c1b9e-6a53-4f39-9d0b-2f4a5c1d7e88",
    },
    {
      comment: "Revoke a token you have",
      command: "flywheel token revoke --token-to-revoke ci.token",
    },
  ],
  async run({ options, args }, context) {
    const [named] = args;
    const { tokenToRevoke } = options;
    if ((named === undefined) === (tokenToRevoke === undefined)) {
      throw new UsageError("token revoke needs a JTI or --token-to-revoke FILE, one of the two");
    }
    const { jti, expiresAtMs } =
      tokenToRevoke === undefined
        ? { jti: named ?? "", expiresAtMs: undefined }
        : await readIdentity(tokenToRevoke, context);
    await using admin = await openAdminClient(await chooseServer(options, context), context);
    await admin.revokeToken(
      jti,
      expiresAtMs === undefined ? undefined : Math.ceil(expiresAtMs / 1000),
    );
    note(context, `Revoked ${jti}.`);
  },
});

async function readIdentity(
  file: string,
  context: CliContext,
): Promise<{ readonly jti: string; readonly expiresAtMs: number | undefined }> {
  const decoded = decodeTokenUnverified(await readTokenFile(file, context));
  const claims = decoded === undefined ? undefined : parseTokenClaims(decoded.payload);
  if (claims?.jti !== undefined) return { jti: claims.jti, expiresAtMs: claims.expiresAtMs };
  throw new CacheError("UNSUPPORTED", `The token in ${file} has no id, so it cannot be revoked`, {
    hint: "Replace the server's token key, or wait until it expires.",
  });
}
