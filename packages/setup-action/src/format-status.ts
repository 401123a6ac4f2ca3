import type { PostState } from "./post-state.ts";

/** The job summary of a job that had no agent, in Markdown: why. */
export function formatStatus({ result }: Pick<PostState, "result">): string {
  const text = `${result.status}: ${result.reason}`
    .replaceAll(/\s+/g, " ")
    .replaceAll(/[|<>&`[\]]/g, (it) => `&#${it.charCodeAt(0)};`);
  return `### Flywheel cache\n\n| | |\n|---|---|\n| Status | ${text} |\n`;
}
