import { CacheError } from "@glorious/core";
import type { PolicyProblem } from "@glorious/trust";

import { note, printLine, warn } from "../cli-context.ts";
import { type Command, defineCommand, flag } from "../command.ts";
import { readPolicyFile } from "../policy/read-policy-file.ts";

export const command: Command = defineCommand({
  name: "policy check",
  summary: "Tell what is wrong with a trust policy",
  description: `Names everything that is wrong with the place where it stands, and what to write there instead.
Warnings keep nothing from working. Nothing is sent anywhere. Exit code 0: a server would take the policy;
1: it would not.`,
  args: [{ name: "FILE", help: "The policy, YAML or JSON", completes: "file" }],
  options: { json: flag("Print one line of JSON") },
  examples: [
    {
      comment: "Check a policy before a server reads it",
      command: "flywheel policy check policy.yaml",
    },
  ],
  async run({ options, args: [file = ""] }, context) {
    const check = await readPolicyFile(file, context);
    const isValid = check.kind === "valid";
    const problems = isValid ? [] : check.problems;
    const warnings = isValid ? check.warnings : [];
    if (options.json) printLine(context, JSON.stringify({ isValid, problems, warnings }));
    else {
      for (const problem of problems) printLine(context, formatProblem(problem));
      for (const warning of warnings) warn(context, formatProblem(warning));
    }
    if (!isValid) {
      const count = problems.length === 1 ? "one problem" : `${problems.length} problems`;
      throw new CacheError("INVALID", `${file} has ${count}: no server would take it`);
    }
    const { policy } = check;
    note(
      context,
      `${file} is a good policy (tenants: ${policy.tenants.length}, views: ${policy.views.size}, scopes: ${policy.scopes.length}).`,
    );
  },
});

function formatProblem({ place, message, hint }: PolicyProblem): string {
  return `${place === "" ? "" : `${place}: `}${message}. ${hint}`;
}
