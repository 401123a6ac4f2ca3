import type { AdminClient } from "@glorious/cache-client";

import type { CliContext } from "./cli-context.ts";
import type { ServerChoice } from "./server-options.ts";

/**
 * Opens the management of a server; its requests end when the user interrupts the command.
 *
 * @param idleTimeoutMs How long an answer may take to begin; by default as long as any request may stand still.
 */
export async function openAdminClient(
  choice: ServerChoice,
  context: CliContext,
  idleTimeoutMs?: number,
): Promise<AdminClient> {
  const { createAdminClient } = await import("@glorious/cache-client");
  const { server, token } = choice;
  return createAdminClient({ server, token, signal: context.signal, idleTimeoutMs });
}
