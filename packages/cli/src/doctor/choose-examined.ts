import { isCacheError } from "@glorious/core";

import type { CliContext } from "../cli-context.ts";
import { chooseServer, requireView, type ServerChoice } from "../server-options.ts";
import { UsageError } from "../usage-error.ts";

/** Which server and view to examine. Not to say it is misuse, not a finding. @throws {UsageError} */
export async function chooseExamined(
  options: {
    readonly server: string | undefined;
    readonly tokenFile: string | undefined;
    readonly view: string | undefined;
  },
  context: CliContext,
): Promise<{ readonly choice: ServerChoice; readonly view: string }> {
  try {
    const choice = await chooseServer(options, context);
    return { choice, view: requireView(options.view, choice) };
  } catch (error) {
    if (!isCacheError(error)) throw error;
    throw new UsageError(error.message, error.hint);
  }
}
