import type { Revocation, RevocationReport } from "@glorious/cache-client";

import { openAdminClient } from "../admin-client.ts";
import { type CliContext, note, printLine } from "../cli-context.ts";
import { type Command, defineCommand, flag, text } from "../command.ts";
import { PRINCIPAL_HEADER, principalCells } from "../format-principal.ts";
import { formatTable } from "../format-table.ts";
import { confirm } from "../read-secret.ts";
import { chooseServer, SERVER_ENVIRONMENT, SERVER_OPTIONS } from "../server-options.ts";
import { UsageError } from "../usage-error.ts";

export const command: Command = defineCommand({
  name: "revoke",
  summary: "Undo all that a run, a principal or a token wrote",
  description: `Hides it at once from everybody, as if it had never been written, refuses the tokens of who is named,
and lists who read it: these are the builds to do again. Of several options all must fit. What is built and pushed anew
is there again. Shows first what would happen; asks on a terminal, and needs --yes elsewhere. Needs an administrator's
token.`,
  options: {
    ...SERVER_OPTIONS,
    run: text("RUN", "What this run wrote, as the forge numbers it"),
    principal: text("ID", "What this principal wrote, as `audit path` shows it"),
    tokenId: text("JTI", "What was written with the token of this id"),
    since: text("TIME", "Only what was written from TIME on, such as 2026-11-26T04:00:00Z"),
    dryRun: flag("Show what would be hidden, and who has read it"),
    list: flag("Show the revocations there are"),
    yes: flag("Do not ask"),
    json: flag("Print one line of JSON"),
  },
  environment: SERVER_ENVIRONMENT,
  examples: [
    { comment: "See what a run has done", command: "flywheel revoke --run 9612345678 --dry-run" },
    { comment: "Undo it", command: "flywheel revoke --run 9612345678 --yes" },
    {
      comment: "Undo what a repository wrote since a break-in",
      command: "flywheel revoke --principal github:… --since 2026-11-26T04:00:00Z",
    },
  ],
  async run({ options }, context) {
    const { run, principal, tokenId: token, list, dryRun, yes, json } = options;
    const since = readTime(options.since);
    const isNamed = [run, principal, token, since].some((given) => given !== undefined);
    if (isNamed === list) {
      throw new UsageError(
        "revoke needs one of --run, --principal, --token-id, --since, or --list",
      );
    }
    await using admin = await openAdminClient(await chooseServer(options, context), context);
    if (list) return printRevocations(await admin.listRevocations(), json, context);
    const request = { run, principal, token, since };
    if (dryRun || !yes) {
      const preview = await admin.revoke({ ...request, dryRun: true });
      if (dryRun || !json) printReport(preview, json, context);
      if (dryRun) return;
      if (context.stdin.isTTY !== true || options.tokenFile === "-") {
        throw new UsageError("revoke needs --yes where nobody can be asked");
      }
      const question = `Hide these ${preview.entries} entries from everybody?`;
      if (!(await confirm(question, context))) return note(context, "Nothing was revoked.");
    }
    const report = await admin.revoke(request);
    printReport(report, json, context);
    note(
      context,
      `Revoked ${report.entries} entries. \`flywheel unquarantine ${report.id}\` takes that back.`,
    );
  },
});

function readTime(given: string | undefined): string | undefined {
  if (given === undefined) return undefined;
  const timeMs = Date.parse(given);
  if (!Number.isNaN(timeMs)) return new Date(timeMs).toISOString();
  throw new UsageError(`${given} is no time`, "Write it as 2026-11-26T04:00:00Z.");
}

function printReport(report: RevocationReport, isJson: boolean, context: CliContext): void {
  if (isJson) return printLine(context, JSON.stringify(report));
  const { entries, samples, writers, consumers } = report;
  note(context, `${entries} entries, written by ${writers.length} tokens.`);
  const written = samples.map(({ view, kind, name }) => [view, kind, name]);
  for (const line of formatTable(["VIEW", "KIND", "NAME"], written)) printLine(context, line);
  if (entries > samples.length) note(context, `${entries - samples.length} more.`);
  note(
    context,
    consumers.length === 0
      ? "Nobody is known to have read any of them."
      : "Read by these, whose builds may hold what was written:",
  );
  if (consumers.length === 0) return;
  const rows = consumers.map(({ entries: read, lastAt, ...facts }) => [
    String(read),
    lastAt,
    ...principalCells(facts),
  ]);
  for (const line of formatTable(["ENTRIES", "LAST", ...PRINCIPAL_HEADER], rows)) {
    printLine(context, line);
  }
}

function printRevocations(
  revocations: readonly Revocation[],
  isJson: boolean,
  context: CliContext,
): void {
  if (isJson) return printLine(context, JSON.stringify(revocations));
  const rows = revocations.map((each) => {
    const { id, run = "", principal = "", token = "", since = "", entries } = each;
    const state = each.finishedAt === undefined ? "hiding" : "in force";
    const now = each.liftedAt === undefined ? state : `taken back ${each.liftedAt}`;
    return [String(id), each.createdAt, String(entries), run, principal, token, since, now];
  });
  const header = ["ID", "MADE", "ENTRIES", "RUN", "PRINCIPAL", "TOKEN", "SINCE", "STATE"];
  for (const line of formatTable(header, rows)) printLine(context, line);
}
