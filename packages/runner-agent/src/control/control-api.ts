import type { AgentSummary } from "../statistics.ts";
import type { DrainReport } from "../uploads/uploader.ts";

/** What the control socket's `GET /v1/session` answers. */
export interface LiveSession {
  readonly summary: AgentSummary;
}

/** A line of the answer to `POST /v1/drain`. */
export type DrainLine =
  | { readonly type: "heartbeat"; readonly left: number; readonly pushed: number }
  | ({ readonly type: "report" } & DrainReport);
