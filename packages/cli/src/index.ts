export type { CliContext } from "./cli-context.ts";
export { run } from "./run.ts";
