import type { AgentSummary, SessionStatus } from "@glorious/runner-agent";

/** What `flywheel setup` is asked for. */
export interface SetupRequest {
  readonly version: 1;
  readonly kinds: readonly ("nix" | "bazel")[];
  readonly serverUrl?: string;
  readonly view?: string;
  readonly audience?: string;
  readonly token?: string;
  readonly push: "auto" | "true" | "false";
  readonly pushMode: "auto" | "hook" | "store-diff" | "none";
  readonly pushFilter?: readonly string[];
  readonly configureSubstituter: boolean;
  readonly priority?: number;
  readonly timeoutSeconds: number;
  readonly drainTimeoutSeconds: number;
  readonly failOnError: boolean;
  readonly cacheMode?: string;
  readonly bazel?: {
    readonly instanceName?: string;
    readonly rc: "user" | "file" | "none";
    readonly configName?: string;
    readonly compression: boolean;
    readonly download: "toplevel" | "minimal" | "all";
    readonly remoteTimeoutSeconds: number;
    readonly bazelVersion?: string;
  };
  readonly temporaryDirectory: string;
  readonly workspace?: string;
  readonly jobPid?: number;
}

/** What `flywheel setup` answers. */
export interface SetupResult {
  readonly version: 1;
  readonly status: SessionStatus;
  readonly reason: string;
  readonly hint?: readonly string[];
  readonly session?: string;
  readonly tenant?: string;
  readonly cache?: string;
  readonly trust?: string;
  readonly canPush: boolean;
  readonly pushMode: string;
  readonly substituter?: string;
  readonly publicKeys: readonly string[];
  readonly bazel?: {
    readonly rcPath?: string;
    readonly remoteCache: string;
    readonly credentialHelper?: string;
  };
  readonly environment: Readonly<Record<string, string>>;
  readonly path: readonly string[];
  readonly masks: readonly string[];
  readonly warnings: readonly {
    readonly code: string;
    readonly message: string;
    readonly hint?: string;
  }[];
  readonly existing: boolean;
}

/** What `flywheel drain --end` answers. */
export interface DrainResult {
  readonly version: 1;
  readonly report: {
    readonly pushed: number;
    readonly left: number;
    readonly failed: number;
    readonly bytes: number;
    readonly reason?: string;
  };
  readonly summary?: AgentSummary;
  /** A job summary. */
  readonly markdown?: string;
}
