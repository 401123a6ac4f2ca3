import {
  createExchangeClient,
  findIdentity,
  obtainIdentityToken,
  readRunnerConfig,
} from "@glorious/cache-client";
import { CacheError, type Logger } from "@glorious/core";

import {
  createFixedCredentials,
  createRenewedCredentials,
  type RenewedCredentials,
} from "../credentials.ts";
import type { SessionFiles } from "../session/session-files.ts";
import { type AgentSettings, writeSessionFile } from "../session/session-state.ts";
import { readTokenFile } from "../uploads/upload-target.ts";

/**
 * The credentials of a session: its token file's, renewed from the job's identity where it came from there. The identity
 * is looked for in this process's own environment, which the job's forge has filled.
 */
export async function openJobCredentials(
  { server, credentials: settings }: AgentSettings,
  files: SessionFiles,
  context: {
    readonly env: Readonly<Record<string, string | undefined>>;
    readonly logger: Logger;
  },
): Promise<RenewedCredentials> {
  const token = await readTokenFile(files.token);
  if (settings.kind !== "exchange") {
    return { ...createFixedCredentials(token), dueAtMs: undefined, [Symbol.dispose]: () => {} };
  }
  const { audience, view, mode } = settings;
  return createRenewedCredentials({
    token,
    logger: context.logger,
    renew: async () => {
      const found = findIdentity(context.env, await readRunnerConfig(context.env));
      if (found.kind === "none") {
        throw new CacheError("CONFIG", "There is no identity to exchange", { hint: found.hint });
      }
      const identity = await obtainIdentityToken(found.source, audience);
      await using client = createExchangeClient({ server });
      return (await client.exchange(identity, { view, mode })).token;
    },
    onRenewed: (renewed) => writeSessionFile(files.token, `${renewed}\n`),
  });
}
