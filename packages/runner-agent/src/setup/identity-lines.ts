import type { JobForge } from "@glorious/cache-client";

/** The lines that give a job an identity, to be pasted into its workflow. */
export function identityLines(forge: JobForge | undefined, audience: string): readonly string[] {
  switch (forge) {
    case "github":
      return ["permissions:", "  contents: read", "  id-token: write"];
    case "forgejo":
      return ["enable-openid-connect: true"];
    case "gitlab":
      return ["id_tokens:", "  FLYWHEEL_ID_TOKEN:", `    aud: ${audience}`];
    case "gitea":
      return ["# Gitea gives jobs no identity.", "with:", "  token: ${{ secrets.CACHE_TOKEN }}"];
    default:
      return ["# Name a token file in the configuration that FLYWHEEL_RUNNER_CONFIG names."];
  }
}

/** The lines that name a value: as an action's input in a workflow, as an option elsewhere. */
export function valueLines(
  env: Readonly<Record<string, string | undefined>>,
  { input, option, value }: Readonly<Record<"input" | "option" | "value", string>>,
): readonly string[] {
  // Forgejo and Gitea set it too.
  const isWorkflow = (env["GITHUB_ACTIONS"] ?? "") !== "";
  return isWorkflow ? ["with:", `  ${input}: ${value}`] : [`${option} ${value}`];
}
