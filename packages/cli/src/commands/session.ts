import { note, printLine } from "../cli-context.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import { SESSION_OPTION } from "../session-option.ts";

export const command: Command = defineCommand({
  name: "session",
  summary: "Show what a job's agent is configured for, and what it did so far",
  options: { ...SESSION_OPTION, json: flag("Print it as one line of JSON") },
  environment: [["FLYWHEEL_SESSION", "The session's folder, as setup gave it"]],
  examples: [{ comment: "In a step of a job", command: "flywheel session" }],
  async run({ options }, context) {
    const { describeSession } = await import("@glorious/runner-agent");
    const described = await describeSession(options.session, context.env);
    if (options.json) return printLine(context, JSON.stringify(described));
    if (!described.isRunning) note(context, "Its agent does not run.");
    printLine(context, described.markdown.trimEnd());
  },
});
