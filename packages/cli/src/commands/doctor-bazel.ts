import { parseBazelRelease } from "@glorious/cache-client";
import { CacheError, parseDurationMs, quoteShell } from "@glorious/core";

import { type Command, defineCommand, flag, text, value } from "../command.ts";
import { examine } from "../doctor-bazel/all-checks.ts";
import { gatherSnapshot } from "../doctor-bazel/gather/gather-snapshot.ts";
import { chooseExamined } from "../doctor/choose-examined.ts";
import { reportFindings } from "../doctor/report-findings.ts";
import { SERVER_ENVIRONMENT, SERVER_OPTIONS, VIEW_OPTION } from "../server-options.ts";

const DEFAULT_TIMEOUT_MS = 10_000;

export const command: Command = defineCommand({
  name: "doctor bazel",
  summary: "Tell whether this machine's Bazel would use a view, and if not, why",
  description: `Looks at Bazel, at the rc files it reads in the working directory, at the token it finds, at the way to the
server, and at the server: what it offers, and whether a small blob and a result come back as they were written, where
the token allows that. Says what this Bazel does when the cache is down. Changes nothing else and shows no secret. Exit
code 0: Bazel uses the view; 1: something keeps it from that; 2: the command line makes no sense.`,
  options: {
    ...SERVER_OPTIONS,
    ...VIEW_OPTION,
    timeout: value("TIME", "How long a step may take; default 10s", parseDurationMs),
    bazel: text("COMMAND", "The Bazel to look at; default bazel", { completes: "file" }),
    bazelVersion: value("VERSION", "Its version, instead of asking it", parseBazelRelease, {
      completes: "nothing",
    }),
    json: flag("Print one line of JSON"),
  },
  environment: [
    ...SERVER_ENVIRONMENT,
    ["NETRC", "Your netrc file, as for Bazel itself; default ~/.netrc"],
    ["XDG_CONFIG_HOME", "Where our own files are; default ~/.config"],
  ],
  examples: [
    {
      comment: "Look at the view you logged in to, from a workspace",
      command: "flywheel doctor bazel",
    },
    {
      comment: "Look at a Bazel that is not in PATH",
      command: "flywheel doctor bazel --bazel ./tools/bazel",
    },
    {
      comment: "Name what is wrong, for a script",
      command:
        "flywheel doctor bazel --json | jq -r '.findings[] | select(.severity == \"error\")'",
    },
  ],
  async run({ options }, context) {
    const { choice, view } = await chooseExamined(options, context);
    const snapshot = await gatherSnapshot(
      {
        server: choice.server,
        view,
        token: choice.token,
        serverFlag: options.server === undefined ? "" : ` --server ${quoteShell(options.server)}`,
        bazel: options.bazel ?? "bazel",
        release: options.bazelVersion,
        timeoutMs: options.timeout ?? DEFAULT_TIMEOUT_MS,
      },
      context,
    );
    if (context.signal.aborted) throw new CacheError("CANCELLED", "Interrupted");
    const { server, remoteCache } = snapshot.target;
    reportFindings(
      {
        tool: "Bazel",
        cache: remoteCache,
        findings: examine(snapshot),
        facts: { server, view, remoteCache },
      },
      options.json,
      context,
    );
  },
});
