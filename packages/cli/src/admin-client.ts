import type { AdminClient } from "@glorious/cache-client";

import type { CliContext } from "./cli-context.ts";
import type { ServerChoice } from "./server-options.ts";

/** Opens the management of a server; its requests end when the user interrupts the command. */
export async function openAdminClient(
  choice: ServerChoice,
  context: CliContext,
): Promise<AdminClient> {
  const { createAdminClient } = await import("@glorious/cache-client");
  return createAdminClient({ server: choice.server, token: choice.token, signal: context.signal });
}
