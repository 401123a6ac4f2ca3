import { text, type ValueOption } from "./command.ts";

/** The option of every command that is about a job's agent. */
export const SESSION_OPTION: { readonly session: ValueOption<string> } = {
  session: text("FOLDER", "The session's folder; default is the job's", { completes: "directory" }),
};
