import { realpath } from "node:fs/promises";
import { resolve } from "node:path";

import { CacheError, parseDurationMs, quoteShell } from "@glorious/core";

import type { CliContext } from "../cli-context.ts";
import { type Command, defineCommand, flag, text, value } from "../command.ts";
import { examine } from "../doctor-nix/all-checks.ts";
import { gatherSnapshot } from "../doctor-nix/gather/gather-snapshot.ts";
import { chooseExamined } from "../doctor/choose-examined.ts";
import { reportFindings } from "../doctor/report-findings.ts";
import { SERVER_ENVIRONMENT, SERVER_OPTIONS, VIEW_OPTION } from "../server-options.ts";
import { UsageError } from "../usage-error.ts";

const DEFAULT_TIMEOUT_MS = 10_000;

export const command: Command = defineCommand({
  name: "doctor nix",
  summary: "Tell whether this machine's Nix would use a view, and if not, why",
  description: `Looks at Nix's settings, trust, netrc file and memory, at the way to the server, at the server, and
at one path: its narinfo, its signature and its NAR, read as Nix reads them. Changes nothing and shows no
secret. Exit code 0: Nix uses the view; 1: something keeps it from that; 2: the command line makes no
sense.`,
  options: {
    ...SERVER_OPTIONS,
    ...VIEW_OPTION,
    storePath: text("PATH", "The path to fetch; default one of the newest here that the view has", {
      completes: "file",
    }),
    timeout: value("TIME", "How long a step may take; default 10s", parseDurationMs),
    nix: text("COMMAND", "The Nix command; default nix", { completes: "file" }),
    json: flag("Print one line of JSON"),
  },
  environment: [
    ...SERVER_ENVIRONMENT,
    [
      "NIX_CONF_DIR, NIX_USER_CONF_FILES, NIX_CONFIG, NIX_REMOTE, XDG_CONFIG_HOME, XDG_CACHE_HOME",
      "Where Nix is configured and what it uses, as for Nix itself",
    ],
  ],
  examples: [
    { comment: "Look at the view you logged in to", command: "flywheel doctor nix" },
    {
      comment: "Look at what a build made, as root, who may see what the daemon sees",
      command: "sudo flywheel doctor nix --view main --store-path ./result",
    },
    {
      comment: "Name what is wrong, for a script",
      command: "flywheel doctor nix --json | jq -r '.findings[] | select(.severity == \"error\")'",
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
        storePath: await resolveStorePath(options.storePath, context),
        nix: options.nix ?? "nix",
        timeoutMs: options.timeout ?? DEFAULT_TIMEOUT_MS,
      },
      context,
    );
    if (context.signal.aborted) throw new CacheError("CANCELLED", "Interrupted");
    const { server, substituter } = snapshot.target;
    reportFindings(
      {
        tool: "Nix",
        cache: substituter,
        findings: examine(snapshot),
        facts: { server, view, substituter },
      },
      options.json,
      context,
    );
  },
});

/** A store path, something inside one, or a link to one. */
async function resolveStorePath(
  given: string | undefined,
  context: CliContext,
): Promise<string | undefined> {
  if (given === undefined) return undefined;
  const path = resolve(context.workingDirectory, given);
  // A path that is only in the view does not exist here.
  const target = await realpath(path).catch(() => path);
  const [storePath] = /^.*?\/[0-9a-z]{32}-[^/]+/.exec(target) ?? [];
  if (storePath !== undefined) return storePath;
  throw new UsageError(
    `--store-path: ${JSON.stringify(given)} is no store path`,
    "Name one such as /nix/store/…-hello, or a link to one.",
  );
}
