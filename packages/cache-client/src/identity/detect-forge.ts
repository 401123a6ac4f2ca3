/** Whose job this process belongs to. */
export type JobForge = "forgejo" | "gitea" | "gitlab" | "github";

export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Tells a forge's job by its variables. GitHub's come last, because Forgejo and Gitea set them too.
 *
 * @returns `undefined` outside of any job.
 */
export function detectForge(env: Environment): JobForge | undefined {
  if (isSet(env["FORGEJO_ACTIONS"])) return "forgejo";
  if (isSet(env["GITEA_ACTIONS"])) return "gitea";
  if (isSet(env["GITLAB_CI"])) return "gitlab";
  return isSet(env["GITHUB_ACTIONS"]) ? "github" : undefined;
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && value !== "" && value !== "false";
}
