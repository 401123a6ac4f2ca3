import type { DocumentKind } from "@glorious/cache-client";

import { openAdminClient } from "../admin-client.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import { printAudit } from "../print-audit.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";
import { UsageError } from "../usage-error.ts";

const KINDS: readonly DocumentKind[] = ["log", "realisation", "build-trace", "debuginfo"];

export const command: Command = defineCommand({
  name: "audit document",
  summary: "Show who wrote a build log, a realisation or another document of Nix's",
  description: `In every view, also what is hidden by a revocation or gone. Who read it is not recorded. Needs an
administrator's token.`,
  args: [
    { name: "KIND", help: "log, realisation, build-trace or debuginfo", completes: "nothing" },
    { name: "NAME", help: "As it is named behind the view's address", completes: "nothing" },
  ],
  options: { ...SERVER_OPTIONS, json: flag("Print one line of JSON") },
  environment: SERVER_ENVIRONMENT,
  examples: [
    {
      comment: "Who said what a derivation's output is",
      command: "flywheel audit document realisation 'sha256:0c5b8v…!out'",
    },
  ],
  async run({ options, args }, context) {
    const [given = "", name = ""] = args;
    const kind = KINDS.find((each) => each === given);
    if (kind === undefined) throw new UsageError(`${given} is none of ${KINDS.join(", ")}`);
    await using admin = await openAdminClient(await chooseServer(options, context), context);
    printAudit(await admin.audit(`documents/${kind}`, name), options.json, context);
  },
});
