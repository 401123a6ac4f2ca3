import { type Command, defineCommand, flag } from "../command.ts";
import { SESSION_OPTION } from "../session-option.ts";

export const command: Command = defineCommand({
  name: "agent",
  summary: "Be the agent of a session; setup runs it",
  description: `The process that \`flywheel setup\` starts beside a job. It serves Nix and Bazel on the loopback interface, pushes
what the job builds, and ends with the job. It writes its log to standard output.`,
  options: {
    ...SESSION_OPTION,
    drainOnly: flag("Serve nothing, only push what an agent before left"),
    wait: flag("Do nothing until standard input says `begin`; setup says it"),
    uploads: flag("Be the part of an agent that pushes; the agent runs it"),
  },
  examples: [
    {
      comment: "By hand, to see what it says",
      command: 'flywheel agent --session "$FLYWHEEL_SESSION"',
    },
  ],
  async run({ options }, context) {
    const {
      completeSetup,
      createAgentLogger,
      isToBegin,
      requireSession,
      runAgent,
      runUploadWorker,
    } = await import("@glorious/runner-agent");
    const files = requireSession(options.session, context.env);
    const { env, self, signal } = context;
    const write = (line: string): void => void context.stdout.write(line);
    if (options.uploads) {
      return runUploadWorker({ files, env, logger: createAgentLogger(write, "uploads") });
    }
    if (options.wait && !(await isToBegin(context.stdin))) return;
    await runAgent({
      folder: files.folder,
      drainOnly: options.drainOnly,
      logger: createAgentLogger(write, "agent"),
      self,
      env,
      signal,
      complete: completeSetup,
    });
  },
});
