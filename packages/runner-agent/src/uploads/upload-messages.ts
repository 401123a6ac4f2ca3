import type { UploadFigures } from "../statistics.ts";
import type { DrainReport } from "./uploader.ts";

/** What the agent tells its upload process. */
export type ToUploads =
  | { readonly type: "drain"; readonly timeoutMs: number }
  /** The answer to `refused`: the token file holds another token now, or not. */
  | { readonly type: "renewed"; readonly isNew: boolean };

/** What the upload process tells its agent. */
export type FromUploads =
  | { readonly type: "figures"; readonly figures: UploadFigures }
  /** The server refused the token of the token file. */
  | { readonly type: "refused" }
  | { readonly type: "drained"; readonly report: DrainReport };
