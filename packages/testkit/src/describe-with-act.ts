import { existsSync } from "node:fs";
import path from "node:path";

import { describe, test } from "vitest";

import { missingToolReason, toolsDirectory } from "./tools-directory.ts";

/**
 * Runs a group of tests with the program `act`, which runs workflow files as GitHub's runner does.
 *
 * Where it is missing there is one skipped test with the reason, so that a run without it never looks complete.
 */
export function describeWithAct(title: string, body: (act: string) => void): void {
  const commands = [path.join(toolsDirectory(), "act", "act")].filter((file) => existsSync(file));
  for (const command of commands) {
    describe(`${title} (act)`, () => {
      body(command);
    });
  }
  if (commands.length > 0) return;
  const reason = missingToolReason("act") ?? "`pnpm tools` builds it, where Go is";
  // oxlint-disable-next-line vitest/expect-expect -- it exists to be skipped
  test(`${title} (act)`, ({ skip }) => skip(`act is not here: ${reason}`));
}
