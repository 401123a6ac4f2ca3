import { formatCount, formatDurationMs, formatSizeBytes } from "@glorious/core";
import type { DrainReport, DrainResult } from "@glorious/runner-agent";

import { type CliContext, note, printLine, warn } from "../cli-context.ts";
import { type Command, defineCommand, flag, value } from "../command.ts";
import { durationSeconds } from "../parse-number.ts";
import { SESSION_OPTION } from "../session-option.ts";

export const command: Command = defineCommand({
  name: "drain",
  summary: "Push what a job has built, and end its agent",
  description: `Waits until the agent has pushed what waits, for as long as --timeout says, and no longer than it makes progress.
An agent that was killed is started again for that. Whatever happens, the exit code is 0: what is left is said.`,
  options: {
    ...SESSION_OPTION,
    timeout: value("TIME", "How long it may take; default what setup was told", durationSeconds),
    end: flag("End the agent as well, and remove what setup made"),
    json: flag("Print the report and the summary as one line of JSON"),
  },
  environment: [["FLYWHEEL_SESSION", "The session's folder, as setup gave it"]],
  examples: [
    { comment: "As a job's last step", command: "flywheel drain --end" },
    { comment: "Before another job needs the paths", command: "flywheel drain --timeout 60s" },
  ],
  async run({ options }, context) {
    const { findSession, runDrain } = await import("@glorious/runner-agent");
    const files = findSession(options.session, context.env);
    const result: DrainResult =
      files === undefined
        ? { version: 1, report: { ...NOTHING, reason: "There is no session" } }
        : await runDrain({
            files,
            timeoutMs: options.timeout === undefined ? undefined : options.timeout * 1000,
            end: options.end,
            self: context.self,
            env: context.env,
            signal: context.signal,
            onHeartbeat: ({ left, pushed }) =>
              note(context, `Pushing: ${pushed} done, ${left} to go`),
          });
    if (options.json) return printLine(context, JSON.stringify(result));
    describeReport(result, context);
  },
});

const NOTHING: DrainReport = { pushed: 0, bytes: 0, failed: 0, left: 0 };

function describeReport({ report, summary }: DrainResult, context: CliContext): void {
  const { pushed, bytes } = summary?.uploads ?? report;
  note(context, `${formatCount(pushed, "path")} pushed, ${formatSizeBytes(bytes)}.`);
  if (report.failed > 0)
    warn(context, `${formatCount(report.failed, "path was", "paths were")} refused.`);
  if (report.left > 0)
    warn(context, `${formatCount(report.left, "path was", "paths were")} not pushed.`);
  if (report.reason !== undefined) warn(context, report.reason);
  for (const { face, opened, openMs } of summary?.breakers ?? []) {
    if (opened > 0)
      note(context, `${face} went without the cache for ${formatDurationMs(openMs)}.`);
  }
}
