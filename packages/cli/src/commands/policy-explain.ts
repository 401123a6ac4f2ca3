import { CacheError } from "@glorious/core";
import { explainGrant } from "@glorious/trust";

import { note, printLine } from "../cli-context.ts";
import { type Command, defineCommand, flag, text } from "../command.ts";
import { formatExplanation, toDecisionJson } from "../policy/format-explanation.ts";
import { describePrincipal, parseClaims, readClaimedPrincipal } from "../policy/read-claims.ts";
import { readPolicyFile, readTextFile } from "../policy/read-policy-file.ts";
import { UsageError } from "../usage-error.ts";

export const command: Command = defineCommand({
  name: "policy explain",
  summary: "Tell what a policy gives to a job, why, and what would change it",
  description: `Decides as a server with this policy would about a job with these claims, which are believed here: no
signature, audience or time is looked at, and nothing is sent anywhere. A refusal is an answer too: the exit
code is 0 as long as the question makes sense.`,
  options: {
    policy: text("FILE", "The policy, YAML or JSON", { completes: "file" }),
    claims: text("FILE", "The payload of the job's identity token as JSON, or the token", {
      completes: "file",
    }),
    issuer: text(
      "NAME",
      "The policy's issuer to read the claims for; default the one of their iss",
    ),
    view: text("VIEW", "The view that the job asks for, by its full name"),
    mode: text("MODE", "What the job asks for: read or write", { completes: ["read", "write"] }),
    json: flag("Print one line of JSON"),
  },
  examples: [
    {
      comment: "What does this job get?",
      command: "flywheel policy explain --policy policy.yaml --claims claims.json",
    },
    {
      comment: "May the release job write?",
      command:
        "flywheel policy explain --policy policy.yaml --claims claims.json --json | jq .write",
    },
  ],
  async run({ options }, context) {
    const { policy: policyFile, claims: claimsFile, view, mode } = options;
    if (policyFile === undefined || claimsFile === undefined) {
      throw new UsageError("Both --policy FILE and --claims FILE are needed");
    }
    if (mode !== undefined && mode !== "read" && mode !== "write") {
      throw new UsageError(`--mode: ${JSON.stringify(mode)} is neither read nor write`);
    }
    const check = await readPolicyFile(policyFile, context);
    if (check.kind === "invalid") {
      throw new CacheError("INVALID", `${policyFile} is no policy that a server would take`, {
        hint: `See what is wrong: flywheel policy check ${policyFile}`,
      });
    }
    const claims = parseClaims(await readTextFile(claimsFile, context));
    const claimed = readClaimedPrincipal(check.policy, claims, options.issuer);
    const explanation =
      claimed.kind === "principal"
        ? explainGrant(check.policy, claimed.principal, { view, mode })
        : {
            decision: { ...claimed, rule: undefined },
            rules: [],
            otherRules: check.policy.scopes.length,
            changes: [],
          };
    if (options.json) return printLine(context, JSON.stringify(toDecisionJson(explanation)));
    const subject = claimed.kind === "principal" ? describePrincipal(claimed.principal) : [];
    for (const line of formatExplanation(explanation, subject)) printLine(context, line);
    note(context, "Nothing about the claims was verified.");
  },
});
