import * as core from "@actions/core";

import type { KeptCache } from "./kept-caches.ts";

/** What the main part tells the post part. Nothing of it is secret. */
export interface PostState {
  readonly result: {
    readonly status: string;
    readonly reason: string;
    /** The folder of the session that this action began. */
    readonly session?: string | undefined;
    readonly isExisting: boolean;
  };
  /** The variables that later steps saw changed, as they were before. */
  readonly formerEnvironment: Readonly<Record<string, string>>;
  readonly drainTimeoutSeconds: number;
  readonly failOnError: boolean;
  readonly kept: readonly KeptCache[];
}

const NAME = "setup";

export function savePostState(state: PostState): void {
  core.saveState(NAME, state);
}

/** `undefined` when the main part did not get that far. */
export function readPostState(): PostState | undefined {
  const text = core.getState(NAME);
  return text === "" ? undefined : (JSON.parse(text) as PostState);
}
