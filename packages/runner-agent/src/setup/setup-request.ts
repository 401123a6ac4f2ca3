import { CacheError } from "@glorious/core";
import * as v from "valibot";

import type { SessionStatus } from "../statistics.ts";

/** The world that a set-up runs in. */
export interface SetupContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** How this command line is run: program and arguments. */
  readonly self: readonly string[];
  readonly workingDirectory: string;
  /** Aborted when the time is over. */
  readonly signal: AbortSignal;
}

/** What can be configured. */
export type SetupKind = "nix" | "bazel";

/** How the job's results get into the cache. */
export type PushMode = "hook" | "store-diff" | "none";

/** What a job wants, from an action's inputs or a command's options. */
export interface SetupRequest {
  readonly version: 1;
  readonly kinds: readonly SetupKind[];
  readonly serverUrl?: string | undefined;
  /** The view's full name; the server's policy may know it without. */
  readonly view?: string | undefined;
  /** Views that Nix reads as well, in this order, for what the first does not have. */
  readonly extraViews: readonly string[];
  /** What identity tokens are made for, when that is not the server's own address. */
  readonly audience?: string | undefined;
  /** Secret. In place of the job's identity. */
  readonly token?: string | undefined;
  readonly push: "auto" | "true" | "false";
  readonly pushMode: "auto" | PushMode;
  /** Regular expressions of store paths that are not pushed for their own sake. */
  readonly pushFilter: readonly string[];
  /** Whether Nix is to read from the cache. */
  readonly configureSubstituter: boolean;
  /** Overrides the view's own; lower is asked first. */
  readonly priority?: number | undefined;
  /** For all of the set-up. */
  readonly timeoutSeconds: number;
  /** After it the job goes on and the agent asks the server alone; absent: the server has half of the time. */
  readonly waitSeconds?: number | undefined;
  readonly drainTimeoutSeconds: number;
  /** `ACTIONS_CACHE_MODE`, which can only forbid. */
  readonly cacheMode?: string | undefined;
  readonly bazel?: BazelRequest | undefined;
  readonly prefetch?: PrefetchRequest | undefined;
  /** Where the session's folder goes: `RUNNER_TEMP`. */
  readonly temporaryDirectory?: string | undefined;
  readonly workspace?: string | undefined;
  /** The runner's process for this job: the agent ends with it. */
  readonly jobPid?: number | undefined;
}

/** What the agent reads for Nix before Nix asks. */
export interface PrefetchRequest {
  readonly enabled: boolean;
  /** How much may lie on the disk. */
  readonly spoolBytes?: number | undefined;
  /** Also NARs of more than 32 MiB. */
  readonly largeNars?: boolean | undefined;
}

/** What a job wants of Bazel. */
export interface BazelRequest {
  /** Appended to the view's name, to keep results apart. */
  readonly instanceName?: string | undefined;
  /** `user`: a line in `~/.bazelrc`; `file`: an rc file for `--bazelrc`. */
  readonly rc: "user" | "file" | "none";
  /** The settings count for `--config=<name>` only. */
  readonly configName?: string | undefined;
  readonly compression: boolean;
  /** What Bazel brings to this machine. */
  readonly download: "toplevel" | "minimal" | "all";
  /** Default 60. */
  readonly remoteTimeoutSeconds?: number | undefined;
  readonly bazelVersion?: string | undefined;
}

/** What Bazel gets where the job says nothing about it. */
export const DEFAULT_BAZEL: BazelRequest = { rc: "user", compression: true, download: "toplevel" };

/** Something the job's people should know. */
export interface SetupWarning {
  readonly code: string;
  readonly message: string;
  readonly hint?: string;
}

/** What became of a request. */
export interface SetupResult {
  readonly version: 1;
  readonly status: SessionStatus;
  /** One plain sentence. */
  readonly reason: string;
  /** The very lines to add. */
  readonly hint?: readonly string[];
  readonly session?: string;
  readonly tenant?: string;
  readonly cache?: string;
  /** What Nix reads as well, in this order. */
  readonly extraCaches: readonly string[];
  readonly trust?: string;
  readonly canPush: boolean;
  readonly pushMode: PushMode;
  readonly substituter?: string;
  /** Of all that Nix reads. */
  readonly publicKeys: readonly string[];
  readonly bazel?: {
    readonly rcPath?: string;
    readonly remoteCache: string;
    readonly credentialHelper?: string;
  };
  /** For the job's later steps. No token. */
  readonly environment: Readonly<Record<string, string>>;
  /** Folders for the front of PATH. */
  readonly path: readonly string[];
  /** What no log may show. Secret. */
  readonly masks: readonly string[];
  readonly warnings: readonly SetupWarning[];
  /** What else is worth a line. */
  readonly notes: readonly string[];
  /** The session was there already: it is reported, not made. */
  readonly existing: boolean;
  readonly timings: SetupTimings;
}

/** Where a set-up's time went, in milliseconds. */
export interface SetupTimings {
  readonly discoverMs: number;
  readonly exchangeMs: number;
  readonly agentMs: number;
  readonly totalMs: number;
}

const optionalText = v.optional(
  v.pipe(
    v.string(),
    v.transform((given) => given || undefined),
  ),
);
const pattern = v.pipe(v.string(), v.check(isPattern, "it is no regular expression"));
const seconds = v.pipe(v.number(), v.minValue(1), v.maxValue(86_400));
const Request = v.object({
  version: v.literal(1),
  kinds: v.pipe(v.array(v.picklist(["nix", "bazel"])), v.minLength(1)),
  serverUrl: optionalText,
  view: optionalText,
  extraViews: v.optional(v.array(v.pipe(v.string(), v.minLength(1))), []),
  audience: optionalText,
  token: optionalText,
  push: v.optional(v.picklist(["auto", "true", "false"]), "auto"),
  pushMode: v.optional(v.picklist(["auto", "hook", "store-diff", "none"]), "auto"),
  pushFilter: v.optional(v.array(pattern), []),
  configureSubstituter: v.optional(v.boolean(), true),
  priority: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0))),
  timeoutSeconds: v.optional(seconds, 30),
  waitSeconds: v.optional(v.pipe(v.number(), v.minValue(0.001), v.maxValue(86_400))),
  drainTimeoutSeconds: v.optional(seconds, 300),
  cacheMode: optionalText,
  bazel: v.optional(
    v.object({
      // It goes into an rc file, one line each.
      instanceName: v.pipe(
        optionalText,
        v.check((given) => !/[\n\r\0]/.test(given ?? "")),
      ),
      rc: v.optional(v.picklist(["user", "file", "none"]), "user"),
      configName: v.optional(v.pipe(v.string(), v.regex(/^[a-z0-9_-]*$/i))),
      compression: v.optional(v.boolean(), true),
      download: v.optional(v.picklist(["toplevel", "minimal", "all"]), "toplevel"),
      remoteTimeoutSeconds: v.optional(seconds),
      bazelVersion: optionalText,
    }),
  ),
  prefetch: v.optional(
    v.object({
      enabled: v.optional(v.boolean(), true),
      spoolBytes: v.optional(v.pipe(v.number(), v.minValue(0))),
      largeNars: v.optional(v.boolean()),
    }),
  ),
  temporaryDirectory: optionalText,
  workspace: optionalText,
  jobPid: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1))),
});

function isPattern(source: string): boolean {
  try {
    return new RegExp(source).source !== "";
  } catch {
    return false;
  }
}

/**
 * Reads a request; fields that it does not know are ignored.
 *
 * @throws {CacheError} `INVALID` with the field's name. No value is quoted: one of them is secret.
 */
export function parseSetupRequest(source: string): SetupRequest {
  let json: unknown;
  try {
    json = JSON.parse(source);
  } catch (cause) {
    throw new CacheError("INVALID", "The request is no JSON", { cause });
  }
  const result = v.safeParse(Request, json);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const where = v.getDotPath(issue) ?? "the request";
  throw new CacheError("INVALID", `${where}: expected ${issue.expected ?? "something else"}`);
}
