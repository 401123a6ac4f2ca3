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
      return ["# This version of Gitea gives jobs no identity."];
    default:
      return ["# Name a token file in the configuration that FLYWHEEL_RUNNER_CONFIG names."];
  }
}
